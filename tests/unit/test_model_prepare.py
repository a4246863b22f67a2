"""Preparing base models, and refusing what cannot be one."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from model_kit import PIECES, SCRATCH, make_language_model, make_task, path_family, prepared_scratch
from transformers import GPTNeoXConfig

from hardscale.artifacts.manifest import read_manifest, verify
from hardscale.errors import ModelError, StudyError
from hardscale.models import check, hub, prepare
from hardscale.models.check import check_source
from hardscale.models.counts import classifier_parameters, generative_parameters
from hardscale.models.load import MODEL, load_tokenizer, new_classifier
from hardscale.models.prepare import prepare_model
from hardscale.models.sources import resolve_source
from hardscale.runtime import console
from hardscale.settings.models import FamilySettings

ENTRY = Path(prepare.__file__).parents[2] / "prepare_model.py"
PYTHIA = FamilySettings(source="builtin", scales=["14m"])
HUB = FamilySettings.model_validate(
    {"source": "models", "scales": {"s": {"hub": "someone/tiny", "revision": "a" * 40}}}
)


def test_scratch_has_a_shape_and_a_tokenizer_but_no_weights(tmp_path):
    out = prepared_scratch(tmp_path)
    facts = verify(out)["facts"]
    assert sorted(path.name for path in (out / MODEL).iterdir()) == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert facts["scratch"] and not facts["has_weights"]
    assert facts["source"] == "scratch" and facts["revision"] == "unpinned"
    assert facts["init"] == {"std": 0.02, "embedding_std": 0.5}
    assert facts["pretrain_tokens"] is None and facts["pretrain_flops"] is None
    assert facts["classifier_parameters"] == sum(p.numel() for p in new_classifier(out, 2, 0).parameters())
    tokenizer = load_tokenizer(out)
    assert all(len(tokenizer(piece).input_ids) == 1 for piece in PIECES)


def test_scratch_is_the_same_twice_and_for_any_order_of_tasks(tmp_path):
    tasks = [make_task(tmp_path / "one"), make_task(tmp_path / "two", ["Longer?\n", "\n\nAnswer:"])]
    for name, order in (("a", tasks), ("b", tasks[::-1])):
        prepare_model("nano", "xs", SCRATCH, order, tmp_path / name, 0)
    assert read_manifest(tmp_path / "a") == read_manifest(tmp_path / "b")
    assert set(read_manifest(tmp_path / "a")["inputs"]) == {"one", "two"}


def test_scratch_with_a_text_tokenizer(tmp_path):
    settings = FamilySettings.model_validate(SCRATCH.model_dump() | {"tokenizer": {"kind": "text", "vocab_size": 290}})
    prepare_model("nano", "xs", settings, [make_task(tmp_path / "task")], tmp_path / "base", 0)
    assert len(load_tokenizer(tmp_path / "base")) <= 290


def test_a_folder_is_taken_over_by_hard_links(tmp_path):
    origin = make_language_model(tmp_path / "origin")
    (origin / "training_args.bin").write_bytes(b"junk")
    (origin / "modeling_evil.py").write_text("raise SystemExit")
    prepare_model("mine", "s", path_family(origin, pretrain_tokens=1_000), [], tmp_path / "base", 0)
    facts = verify(tmp_path / "base")["facts"]
    folder = tmp_path / "base" / MODEL
    assert (folder / "model.safetensors").samefile(origin / "model.safetensors")
    assert not (folder / "config.json").samefile(origin / "config.json")
    assert not list(folder.glob("*.bin")) and not list(folder.glob("*.py"))
    assert facts["has_weights"] and not facts["scratch"] and "init" not in facts
    assert facts["pretrain_flops"] == 6 * facts["generative_parameters"] * 1_000


def test_copies_where_links_are_impossible(tmp_path, monkeypatch):
    origin = make_language_model(tmp_path / "origin")
    monkeypatch.setattr(prepare.os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "cross-device")))
    prepare_model("mine", "s", path_family(origin), [], tmp_path / "base", 0)
    assert not (tmp_path / "base" / MODEL / "model.safetensors").samefile(origin / "model.safetensors")
    assert verify(tmp_path / "base")


def test_sharded_weights(tmp_path):
    origin = make_language_model(tmp_path / "origin")
    model = new_classifier(_prepared(origin, tmp_path / "b0"), 2, 0)
    model.save_pretrained(origin, max_shard_size="5KB")
    (origin / "model.safetensors").unlink(missing_ok=True)
    assert check_source("mine", "s", path_family(origin)) is None
    base = _prepared(origin, tmp_path / "b1")
    assert torch.equal(new_classifier(base, 2, 0).model.norm.weight, model.model.norm.weight)
    shards = sorted((tmp_path / "origin").glob("model-*.safetensors"))
    shards[1].unlink()
    assert "missing" in (check_source("mine", "s", path_family(origin)) or "")


def _prepared(origin, out):
    prepare_model("mine", "s", path_family(origin), [], out, 0)
    return out


def _pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _index(name):
    def change(folder):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))

    return change


BROKEN = {
    "pickled": (_pickled, "pytorch_model.bin: pickled weights are never loaded .*convert"),
    "truncated": (_truncated, "model.safetensors: .*truncated"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors: not a safetensors file"),
    "lfs": (
        lambda f: (f / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "remote code": (_config(auto_map={"AutoModel": "modeling_x.X"}), "config.json: auto_map asks to run code"),
    "quantized": (_config(quantization_config={"quant_method": "gptq"}), r"quantized weights \(gptq\)"),
    "no model type": (lambda f: (f / "config.json").write_text("{}"), "no model_type"),
    "bad json": (lambda f: (f / "config.json").write_text("{"), "config.json: not readable as JSON"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: missing"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
    "index leaves the folder": (_index("../model.safetensors"), "file names in the same folder"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders_are_refused_in_one_line(case, tmp_path):
    breaking, message = BROKEN[case]
    origin = make_language_model(tmp_path / "origin")
    breaking(origin)
    problem = check_source("mine", "s", path_family(origin))
    assert problem is not None and problem.startswith("families.mine.scales.s: ")
    with pytest.raises(ModelError, match=message) as caught:
        prepare_model("mine", "s", path_family(origin), [], tmp_path / "base", 0)
    assert "\n" not in str(caught.value) and not (tmp_path / "base").exists()


def test_later_refusals_leave_nothing_behind(tmp_path):
    origin = make_language_model(tmp_path / "origin")
    _config(model_type="nonesuch")(origin)
    with pytest.raises(ModelError, match="transformers knows"):
        prepare_model("mine", "s", path_family(origin), [], tmp_path / "base", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["origin"]


def test_a_missing_folder(tmp_path):
    assert "no such folder" in (check_source("mine", "s", path_family(tmp_path / "none")) or "")


def test_unknown_scales():
    with pytest.raises(StudyError, match="no 'xl'"):
        resolve_source("nano", "xl", SCRATCH)
    assert "no builtin scale" in (check_source("pythia", "15m", PYTHIA) or "")
    assert check_source("nano", "xs", SCRATCH) is None


def _snapshot(tmp_path, monkeypatch):
    """A stand-in for the hub: a cache folder with one snapshot."""
    folder = make_language_model(tmp_path / "hub" / "models--someone--tiny" / "snapshots" / ("a" * 40))
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return folder


def test_a_hub_model_keeps_its_commit(tmp_path, monkeypatch):
    _snapshot(tmp_path, monkeypatch)
    prepare_model("mine", "s", HUB, [], tmp_path / "base", 0)
    facts = read_manifest(tmp_path / "base")["facts"]
    assert facts["source"] == "hub:someone/tiny" and facts["revision"] == facts["commit"] == "a" * 40
    unpinned = FamilySettings.model_validate({"source": "models", "scales": {"s": {"hub": "someone/tiny"}}})
    prepare_model("mine", "s", unpinned, [], tmp_path / "base2", 0)
    assert read_manifest(tmp_path / "base2")["facts"]["revision"] == "unpinned"


def test_offline(tmp_path, monkeypatch):
    _snapshot(tmp_path, monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert check_source("mine", "s", HUB) is None  # in the cache
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    problem = check_source("mine", "s", HUB) or ""
    assert "hf download someone/tiny --revision aaaa" in problem and "path:" in problem


def test_an_unreachable_hub_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match="hf download EleutherAI/pythia-14m`") as caught:
        prepare_model("pythia", "14m", PYTHIA, [], tmp_path / "base", 0)
    assert "\n" not in str(caught.value)


def test_reaching_out_is_asked_once_and_ends(monkeypatch):
    check._answers.cache_clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not check.hub_is_reachable()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not check.hub_is_reachable()


@pytest.mark.parametrize("name", ["../../etc", "a b/c", "a/b/c", "-"])
def test_bad_hub_names(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert check.hub_problem(name, None)


def test_a_root_in_hub_layout_comes_before_the_hub(tmp_path):
    make_language_model(tmp_path / "root" / "someone" / "tiny", "gpt_neox")
    assert check_source("mine", "s", HUB, tmp_path / "root") is None
    prepare_model("mine", "s", HUB, [], tmp_path / "base", 0, root=tmp_path / "root")
    assert read_manifest(tmp_path / "base")["facts"]["source"].startswith("path:")


def test_a_builtin_scale_must_have_its_size(tmp_path):
    make_language_model(tmp_path / "EleutherAI" / "pythia-14m", "gpt_neox")
    with pytest.raises(ModelError, match="pythia 14m has 7,629,056"):
        prepare_model("pythia", "14m", PYTHIA, [], tmp_path / "base", 0, root=tmp_path)


def test_too_large_a_tokenizer_is_refused(tmp_path):
    origin = make_language_model(tmp_path / "origin")
    _config(vocab_size=200)(origin)
    with pytest.raises(ModelError, match="200 embeddings"):
        prepare_model("mine", "s", path_family(origin), [], tmp_path / "base", 0)


def gguf_family(file):
    return FamilySettings.model_validate({"source": "models", "scales": {"s": {"gguf": str(file)}}})


def test_gguf_refusals(tmp_path, monkeypatch):
    file = tmp_path / "model.gguf"
    assert "no such file" in (check_source("mine", "s", gguf_family(file)) or "")
    file.write_bytes(b"PK\x03\x04")
    assert "not a GGUF file" in (check_source("mine", "s", gguf_family(file)) or "")
    file.write_bytes(b"GGUF\x03\x00\x00\x00garbage")
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    assert "pip install gguf" in (check_source("mine", "s", gguf_family(file)) or "")
    with pytest.raises(ModelError, match="pip install gguf"):
        prepare.read_gguf(file)


def test_a_malformed_gguf_file_is_one_line(tmp_path):
    pytest.importorskip("gguf")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF\x03\x00\x00\x00garbage")
    with pytest.raises(ModelError, match="cannot be converted") as caught:
        prepare.read_gguf(file)
    assert "\n" not in str(caught.value)


def test_a_gguf_file_becomes_an_ordinary_folder(tmp_path):
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    prepare_model("mine", "s", gguf_family(file), [], tmp_path / "base", 0)
    facts = verify(tmp_path / "base")["facts"]
    assert facts["has_weights"] and facts["source"] == f"gguf:{file}"
    assert "quantization_config" not in (tmp_path / "base" / MODEL / "config.json").read_text()
    model = new_classifier(tmp_path / "base", 2, seed=0)
    assert model.model.embed_tokens.weight[3, 2].item() == pytest.approx(0.5)


def write_tiny_gguf(path, width=32, inner=32, n_tokens=260):
    """A one-layer Llama in float32 with a byte vocabulary; all weights 0.5."""
    package = pytest.importorskip("gguf")
    import numpy as np

    writer = package.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 2)
    writer.add_vocab_size(n_tokens)
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = ["<|endoftext|>", *letters, "ab", "abc", "cd"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["a b", "ab c", "c d"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    assert len(tokens) == n_tokens
    shapes = {
        "token_embd": (n_tokens, width),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (width, width),
        "blk.0.attn_v": (width, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_gate": (inner, width),
        "blk.0.ffn_up": (inner, width),
        "blk.0.ffn_down": (width, inner),
        "blk.0.attn_norm": (width,),
        "blk.0.ffn_norm": (width,),
        "output_norm": (width,),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.full(shape, 0.5, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_counts_of_a_prepared_gpt_neox(tmp_path):
    origin = make_language_model(tmp_path / "origin", "gpt_neox")
    prepare_model("mine", "s", path_family(origin), [], tmp_path / "base", 0)
    facts = read_manifest(tmp_path / "base")["facts"]
    config = GPTNeoXConfig.from_pretrained(origin)
    assert facts["classifier_parameters"] == classifier_parameters(config)
    assert facts["generative_parameters"] == generative_parameters(config)


def run_entry(monkeypatch, *arguments):
    """The script's main() in this process: an interpreter of its own would spend seconds on imports."""
    monkeypatch.setattr(console, "_terminal", sys.stderr)  # it keeps the stream of its first import
    monkeypatch.setattr(sys, "argv", [str(ENTRY), *map(str, arguments)])
    # Libraries are loaded here: too late to settle what they compute with.
    monkeypatch.setitem(sys.modules, "hardscale.runtime.pinned", ModuleType("hardscale.runtime.pinned"))
    runpy.run_path(str(ENTRY), run_name="__main__")


def test_entry_script(tmp_path, monkeypatch, capfd):
    spec = {"family": "nano", "scale": "xs", "settings": SCRATCH.model_dump(mode="json"), "seed": 0}
    task = make_task(tmp_path / "task")
    run_entry(monkeypatch, "--spec", json.dumps(spec), "--task", task, "--out", tmp_path / "base")
    assert "parameters as a classifier" in capfd.readouterr().err
    assert verify(tmp_path / "base")


def test_entry_script_ends_with_one_line(tmp_path, monkeypatch, capfd):
    settings = path_family(tmp_path / "none").model_dump(mode="json")
    spec = {"family": "mine", "scale": "s", "settings": settings, "seed": 0}
    with pytest.raises(SystemExit) as left:
        run_entry(monkeypatch, "--spec", json.dumps(spec), "--out", tmp_path / "base")
    assert left.value.code == 1
    assert "none: no such folder" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "base").exists()
