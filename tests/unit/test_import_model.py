"""Chat models that nobody trains here: taken as they are, external ones, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from chat_kit import NO_GENERATION_PROMPT, make_chat_base, make_chat_task
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from train_kit import make_base

from hardscale.artifacts.manifest import read_manifest, verify
from hardscale.artifacts.schemas import CLEAN, METRICS, TIMING
from hardscale.artifacts.tables import read_table
from hardscale.errors import DataError, ModelError, StudyError
from hardscale.models.chat import ChatTemplate, load_chat_model
from hardscale.models.check import check_external
from hardscale.models.counts import generative_parameters
from hardscale.models.load import MODEL
from hardscale.settings.defenses import External
from hardscale.training.import_model import import_external, import_model

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "import_model.py"
CELL = "chat/mine/s/s0"
SPEC = {"cell": CELL, "defense": "none", "external": None, "round": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(base, task)."""
    root = tmp_path_factory.mktemp("inputs")
    return make_chat_base(root / "base"), make_chat_task(root / "task")


def external(**settings):
    return {"cell": CELL, "defense": "theirs", "round": 1, "external": {"kind": "external", **settings}}


def make_adapter(folder, base, dtype=torch.float32):
    """A saved LoRA adapter that changes every attention layer."""
    model, _ = load_chat_model(base)
    torch.manual_seed(1)
    handle = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    handle.to(dtype).save_pretrained(folder, save_embedding_layers=False)
    return folder


def logits(folder):
    model, tokenizer = load_chat_model(folder)
    ids = ChatTemplate(tokenizer).prompt_ids("Write the word apple.")
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits


def test_a_model_as_it_is(made, tmp_path):
    import_model(SPEC, *made, tmp_path / "out")
    manifest = verify(tmp_path / "out")
    facts = manifest["facts"]
    assert (manifest["kind"], set(manifest["inputs"])) == ("model", {"base", "task"})
    assert (facts["cell"], facts["defense"], facts["round"], facts["has_weights"]) == (CELL, "none", 0, True)
    assert {facts[key] for key in ("training_flops", "generation_flops", "defense_flops", "n_seen_tokens")} == {0}
    assert (facts["n_clean"], facts["clean_accuracy"]) == (0, None)
    model, tokenizer = load_chat_model(tmp_path / "out")
    assert facts["n_params"] == generative_parameters(model.config) < sum(p.numel() for p in model.parameters())
    assert facts["template_sha256"] == ChatTemplate(tokenizer).sha256
    for name, schema in (("clean", CLEAN), ("metrics", METRICS), ("timing", TIMING)):
        assert read_table(tmp_path / "out" / f"{name}.parquet", schema).num_rows == 0
    for path in (made[0] / MODEL).iterdir():
        assert (tmp_path / "out" / MODEL / path.name).samefile(path)  # a link: nothing is doubled
    import_model(SPEC, *made, tmp_path / "again")
    assert read_manifest(tmp_path / "again")["self"] == manifest["self"]


def test_the_templates_of_the_task_s_system_prompt(made, tmp_path):
    task = make_chat_task(tmp_path / "task", system_prompt="Be brief.")
    import_model(SPEC, made[0], task, tmp_path / "out")
    _, tokenizer = load_chat_model(tmp_path / "out")
    assert read_manifest(tmp_path / "out")["facts"]["template_sha256"] == ChatTemplate(tokenizer, "Be brief.").sha256


def test_what_can_not_be_adopted(made, tmp_path):
    base, classifiers = make_base(tmp_path)
    with pytest.raises(ModelError, match="has no weights"):
        import_model(SPEC, base, made[1], tmp_path / "out")
    with pytest.raises(DataError, match="task for classifiers"):
        import_model(SPEC, made[0], classifiers, tmp_path / "out")
    mute = make_chat_base(tmp_path / "mute", NO_GENERATION_PROMPT)
    with pytest.raises(ModelError, match="no generation prompt"):
        import_model(SPEC, mute, made[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_external_checkpoint_is_linked_and_costs_an_unknown_amount(made, tmp_path):
    theirs = make_chat_base(tmp_path / "theirs", seed=7)
    import_external(external(base=str(theirs / MODEL)), *made, tmp_path / "out")
    facts = verify(tmp_path / "out")["facts"]
    assert (facts["defense"], facts["round"], facts["n_seen_tokens"]) == ("theirs", 1, None)
    assert facts["training_flops"] is facts["defense_flops"] is facts["generation_flops"] is None
    assert facts["external"] == {"base": {"source": str(theirs / MODEL), "commit": None}}
    weights = tmp_path / "out" / MODEL / "model.safetensors"
    assert weights.samefile(theirs / MODEL / "model.safetensors")
    assert torch.equal(logits(tmp_path / "out"), logits(theirs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_is_merged(made, tmp_path, dtype):
    from peft import PeftModel

    adapter = make_adapter(tmp_path / "adapter", made[0], dtype)
    before = (made[0] / MODEL / "model.safetensors").read_bytes()
    import_external(external(adapter=str(adapter)), *made, tmp_path / "out")
    model, tokenizer = load_chat_model(made[0])
    ids = torch.tensor([ChatTemplate(tokenizer).prompt_ids("Write the word apple.")])
    with torch.no_grad():
        wanted = PeftModel.from_pretrained(model, str(adapter))(input_ids=ids).logits
    torch.testing.assert_close(logits(tmp_path / "out"), wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(tmp_path / "out"), logits(made[0]), atol=1e-2)
    assert (made[0] / MODEL / "model.safetensors").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == [MODEL]
    import_external(external(adapter=str(adapter)), *made, tmp_path / "again")
    assert read_manifest(tmp_path / "again")["files"] == read_manifest(tmp_path / "out")["files"]


def test_a_checkpoint_without_a_tokenizer_speaks_the_base_s_or_the_one_named(made, tmp_path):
    theirs = make_chat_base(tmp_path / "theirs", seed=7) / MODEL
    (tmp_path / "spoken").mkdir()
    for path in theirs.iterdir():
        if "token" in path.name or "chat" in path.name:
            path.rename(tmp_path / "spoken" / path.name)
    import_external(external(base=str(theirs)), *made, tmp_path / "out")
    assert (tmp_path / "out" / MODEL / "tokenizer.json").read_bytes() == (
        made[0] / MODEL / "tokenizer.json"
    ).read_bytes()
    import_external(external(base=str(theirs), tokenizer=str(tmp_path / "spoken")), *made, tmp_path / "named")
    assert "tokenizer" in read_manifest(tmp_path / "named")["facts"]["external"]


def test_models_of_a_data_root_stand_for_the_hub_s(made, tmp_path):
    make_adapter(tmp_path / "org" / "adapter", made[0])
    import_external(external(adapter="hub:org/adapter@abc"), *made, tmp_path / "out", tmp_path)
    assert read_manifest(tmp_path / "out")["facts"]["external"]["adapter"]["source"] == "hub:org/adapter@abc"


def _pickled(folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _quantized(folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor.to(torch.int8) for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")


def _config(**changes):
    def change(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _lacking(folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "adapter_model.safetensors")


def _wider(folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: torch.cat([tensor, tensor]) for name, tensor in tensors.items()}, folder / "adapter_model.safetensors"
    )


BROKEN = {
    "pickled": (_pickled, r"adapter_model\.bin: a pickled adapter is never loaded"),
    "quantized": (_quantized, r"quantized tensors \(I8\) cannot be merged"),
    "another kind": (_config(peft_type="PROMPT_TUNING"), "peft_type 'PROMPT_TUNING', allowed is LORA"),
    "imports": (_config(megatron_config={"a": 1}), "megatron_config asks to import"),
    "no such layers": (_config(target_modules=["nowhere"]), "does not fit its base"),
    "lacking": (_lacking, "1 tensors have no counterpart in the base"),
    "other shapes": (_wider, "does not fit its base"),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json: missing"),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "missing; give an adapter saved by peft",
    ),
    "truncated": (
        lambda folder: os.truncate(folder / "adapter_model.safetensors", 500),
        "truncated",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_adapters_that_are_refused(made, tmp_path, case):
    breaking, message = BROKEN[case]
    adapter = make_adapter(tmp_path / "adapter", made[0])
    breaking(adapter)
    with pytest.raises(ModelError, match=message) as caught:
        import_external(external(adapter=str(adapter)), *made, tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_bases_that_are_refused(made, tmp_path):
    theirs = make_chat_base(tmp_path / "theirs") / MODEL
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(ModelError, match=r"quantized weights \(bitsandbytes\)"):
        import_external(external(base=str(theirs)), *made, tmp_path / "out")
    with pytest.raises(ModelError, match="no such folder"):
        import_external(external(base=str(tmp_path / "absent")), *made, tmp_path / "out")
    with pytest.raises(StudyError, match="is not hub:org/name"):
        import_external(external(base="hub:nothing"), *made, tmp_path / "out")
    with pytest.raises(ModelError, match="--spec: external: "):
        import_external(external(), *made, tmp_path / "out")


def test_the_preflight_of_external_defenses(made, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def look(**settings):
        return check_external("theirs", External.model_validate({"kind": "external", **settings}), tmp_path)

    adapter = make_adapter(tmp_path / "org" / "adapter", made[0])
    assert look(base=str(made[0] / MODEL), adapter="hub:org/adapter", tokenizer=str(made[0] / MODEL)) is None
    assert look(base="hub:org/absent").startswith("defenses.theirs.base: org/absent is not in the Hugging Face cache")
    assert "defenses.theirs.adapter: 'hub:x' is not hub:org/name" in look(adapter="hub:x")
    assert "no tokenizer" in look(base=str(made[0] / MODEL), tokenizer=str(tmp_path))
    _pickled(adapter)
    assert look(adapter="hub:org/adapter").startswith(
        f"defenses.theirs.adapter: {adapter}/adapter_model.bin: a pickled"
    )
    cached = tmp_path / "hub" / "models--org--far" / "snapshots" / "abc"
    cached.mkdir(parents=True)
    (cached / "adapter_model.safetensors").touch()
    assert look(adapter="hub:org/far@abc") is None and look(base="hub:org/far@abc") is not None


def test_the_entry(made, tmp_path):
    command = [sys.executable, str(SCRIPT), "--base", str(made[0] / "manifest.json"), "--task", str(made[1])]
    command += ["--log", str(tmp_path / "log.txt"), "--out", str(tmp_path / "out" / "manifest.json"), "--spec"]
    done = subprocess.run([*command, json.dumps(SPEC)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"[import_model {CELL}/none] " in done.stderr and "chat template" in done.stderr
    assert read_manifest(tmp_path / "out")["facts"]["round"] == 0
