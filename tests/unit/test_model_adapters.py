"""Adapters of every form that PEFT stores LoRA in, against what PEFT itself computes with them; others by name."""

import json
import shutil

import pytest
import torch
from chat_kit import CHATML, chat_tokenizer, make_chat_task
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from hardscale.artifacts.manifest import read_manifest
from hardscale.errors import ModelError
from hardscale.models.adapters import adapter_problem, quantized_problem, quantized_training
from hardscale.models.check import check_external
from hardscale.models.load import MODEL
from hardscale.models.prepare import prepare_model
from hardscale.settings.defenses import External
from hardscale.settings.models import FamilySettings
from hardscale.training.import_model import import_external

CELL = "chat/mine/s/s0"
IDS = torch.arange(3, 90, 4)[None]


def save_base(folder, tied=False, dtype=torch.float32):
    tokenizer = chat_tokenizer(CHATML)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 3,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        attention_bias=True,
        tie_word_embeddings=tied,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Bases by whether head and embedding are one, as artifacts, and a task."""
    root = tmp_path_factory.mktemp("adapters")
    bases = {}
    for tied in (False, True):
        folder = save_base(root / f"their-{tied}", tied)
        family = FamilySettings.model_validate({"source": "models", "scales": {"s": {"path": str(folder)}}})
        bases[tied] = root / f"base-{tied}"
        prepare_model("mine", "s", family, [], bases[tied], 0)
    return bases, make_chat_task(root / "task")


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def save_adapter(folder, base, config, change=None, **saving):
    """An adapter that changes everything it may."""
    model = plain(base / MODEL)
    if change:
        change(model)
    torch.manual_seed(1)
    handle = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in handle.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    handle.save_pretrained(folder, **saving)
    with torch.no_grad():
        return handle.eval()(input_ids=IDS).logits


def adopt(made, tied, out, **settings):
    bases, task = made
    spec = {"cell": CELL, "defense": "theirs", "round": 1, "external": {"kind": "external", **settings}}
    import_external(spec, bases[tied], task, out)
    return read_manifest(out)["facts"]["external"]


def lora(**more):
    return LoraConfig(r=2, task_type="CAUSAL_LM", **{"target_modules": ["q_proj", "v_proj"], **more})


FORMS = {
    "attention": lora(),
    "all linear": lora(target_modules="all-linear"),
    "embeddings and head": lora(target_modules=["q_proj", "embed_tokens", "lm_head"]),
    "embeddings": lora(target_modules=["q_proj", "embed_tokens"]),
    "head": lora(target_modules=["q_proj", "lm_head"]),
    "saved embeddings and head": lora(modules_to_save=["embed_tokens", "lm_head"]),
    "a saved head": lora(modules_to_save=["lm_head"]),
    "saved embeddings": lora(modules_to_save=["embed_tokens"]),
    "saved norms": lora(modules_to_save=["norm", "input_layernorm"]),
    "trained tokens": lora(trainable_token_indices=[5, 9]),
    "trained tokens of both": lora(trainable_token_indices={"embed_tokens": [5, 9]}),
    "DoRA": lora(use_dora=True),
    "DoRA on embeddings": lora(use_dora=True, target_modules=["q_proj", "embed_tokens"]),
    "rsLoRA": lora(use_rslora=True, lora_alpha=7),
    "patterns": lora(rank_pattern={"q_proj": 3}, alpha_pattern={"v_proj": 9}),
    "biases": lora(bias="all"),
    "biases of its layers": lora(bias="lora_only"),
    "biases of its own": lora(lora_bias=True),
    "tied by wish": lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    "targets by expression": lora(target_modules=r".*\.(q_proj|embed_tokens)"),
    "layers": lora(layers_to_transform=[1], layers_pattern="layers"),
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_merged_model_computes_what_the_adapted_one_does(made, tmp_path, form, tied):
    bases, _ = made
    wanted = save_adapter(tmp_path / "adapter", bases[tied], FORMS[form])
    with torch.no_grad():
        loaded = PeftModel.from_pretrained(plain(bases[tied] / MODEL), str(tmp_path / "adapter")).eval()
        torch.testing.assert_close(loaded(input_ids=IDS).logits, wanted, atol=1e-4, rtol=1e-4)  # PEFT keeps all of it
        before = plain(bases[tied] / MODEL)(input_ids=IDS).logits
        facts = adopt(made, tied, tmp_path / "out", adapter=str(tmp_path / "adapter"))
        found = plain(tmp_path / "out" / MODEL)(input_ids=IDS).logits
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found, before, atol=1e-2)
    one_sided = form in ("embeddings", "head", "a saved head", "saved embeddings", "DoRA on embeddings")
    if tied and one_sided:
        assert facts["adapter"]["untied"] is True


def test_in_half_precision(made, tmp_path):
    bases, _ = made
    wanted = save_adapter(tmp_path / "adapter", bases[False], FORMS["embeddings and head"])
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    # Whole tensors of the base come with it, in its precision.
    adopt(made, False, tmp_path / "out", adapter=str(tmp_path / "adapter"))
    with torch.no_grad():
        found = plain(tmp_path / "out" / MODEL)(input_ids=IDS).logits
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0.05)


# --- vocabularies ---------------------------------------------------------------------------------------------------


def grown(model):
    model.resize_token_embeddings(model.config.vocab_size + 5, mean_resizing=False)


def test_a_grown_vocabulary_comes_with_the_adapter(made, tmp_path):
    bases, _ = made
    config = lora(target_modules=["q_proj", "embed_tokens", "lm_head"])
    wanted = save_adapter(tmp_path / "adapter", bases[False], config, grown)
    facts = adopt(made, False, tmp_path / "out", adapter=str(tmp_path / "adapter"))
    model = plain(tmp_path / "out" / MODEL)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, wanted, atol=1e-3, rtol=1e-3)
    assert facts["adapter"]["vocabulary"] == model.config.vocab_size == wanted.shape[-1]


def test_a_grown_vocabulary_that_nothing_targets(made, tmp_path):
    bases, _ = made
    wanted = save_adapter(tmp_path / "adapter", bases[False], lora(), grown, save_embedding_layers=True)
    adopt(made, False, tmp_path / "out", adapter=str(tmp_path / "adapter"))
    with torch.no_grad():
        found = plain(tmp_path / "out" / MODEL)(input_ids=IDS).logits
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_a_grown_vocabulary_with_a_tokenizer_asks_which_one_is_spoken(made, tmp_path):
    bases, _ = made
    adapter = tmp_path / "adapter"
    save_adapter(adapter, bases[False], lora(), grown, save_embedding_layers=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(bases[False] / MODEL / name, adapter / name)
    with pytest.raises(ModelError, match="say which one is spoken"):
        adopt(made, False, tmp_path / "out", adapter=str(adapter))
    adopt(made, False, tmp_path / "out", adapter=str(adapter), tokenizer=str(adapter))


def test_half_of_a_grown_vocabulary_is_refused(made, tmp_path):
    bases, _ = made
    save_adapter(tmp_path / "adapter", bases[False], lora(), grown, save_embedding_layers=True)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if "lm_head" not in n}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"its vocabulary has \d+ tokens and its base \d+, and lm_head is not in it"):
        adopt(made, False, tmp_path / "out", adapter=str(tmp_path / "adapter"))


# --- quantized training ---------------------------------------------------------------------------------------------


def config_says(**changes):
    def change(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def card(text):
    return lambda folder: (folder / "README.md").write_text(text, encoding="utf-8")


QUANTIZED = {
    "its base's name": config_says(base_model_name_or_path="unsloth/llama-3-8b-bnb-4bit"),
    "a GPTQ base": config_says(base_model_name_or_path="TheBloke/Llama-2-7B-GPTQ"),
    "an AWQ base": config_says(base_model_name_or_path="someone/model-AWQ"),
    "LoftQ": config_says(loftq_config={"loftq_bits": 4}),
    "its own configuration": config_says(quantization_config={"load_in_4bit": True}),
    "PEFT's card": card(
        "The following `bitsandbytes` quantization config was used during training:\n- quant_method: bitsandbytes\n"
        "- load_in_8bit: False\n- load_in_4bit: True\n"
    ),
    "a card with newer names": card("- quant_method: QuantizationMethod.BITS_AND_BYTES\n"),
    "a card with code": card("BitsAndBytesConfig(load_in_8bit=True)"),
}
NOT_QUANTIZED = {
    "nothing": lambda folder: None,
    "another name": config_says(base_model_name_or_path="org/habit4bitter-bnbsomething"),
    "a card that denies": card("- load_in_8bit: False\n- load_in_4bit: False\n"),
    "no name": config_says(base_model_name_or_path=None),
}


@pytest.mark.parametrize("case", QUANTIZED)
def test_quantized_training_is_refused_until_the_study_says_merge(made, tmp_path, case):
    bases, _ = made
    adapter = tmp_path / "adapter"
    save_adapter(adapter, bases[False], FORMS["attention"])
    QUANTIZED[case](adapter)
    with pytest.raises(ModelError, match=r"trained on quantized weights .*set quantized_training: merge") as caught:
        adopt(made, False, tmp_path / "out", adapter=str(adapter))
    settings = External.model_validate({"kind": "external", "adapter": str(adapter)})
    assert check_external("theirs", settings) == f"defenses.theirs.{caught.value}"
    facts = adopt(made, False, tmp_path / "out", adapter=str(adapter), quantized_training="merge")
    assert facts["adapter"]["merged_into"] == "weights without quantization" and facts["adapter"]["trained_on"]


@pytest.mark.parametrize("case", NOT_QUANTIZED)
def test_what_says_nothing_of_it(made, tmp_path, case):
    bases, _ = made
    save_adapter(tmp_path / "adapter", bases[False], FORMS["attention"])
    NOT_QUANTIZED[case](tmp_path / "adapter")
    assert quantized_training(tmp_path / "adapter") is None
    assert quantized_problem(tmp_path / "adapter", "refuse") is None
    assert "trained_on" not in adopt(made, False, tmp_path / "out", adapter=str(tmp_path / "adapter"))["adapter"]


def test_a_local_base_that_is_quantized(made, tmp_path):
    bases, _ = made
    save_adapter(tmp_path / "adapter", bases[False], FORMS["attention"])
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "config.json").write_text('{"quantization_config": {"quant_method": "bitsandbytes"}}')
    config_says(base_model_name_or_path=str(tmp_path / "packed"))(tmp_path / "adapter")
    assert "quantization_config of its base" in (quantized_training(tmp_path / "adapter") or "")


# --- what is refused by name ----------------------------------------------------------------------------------------

OTHERS = {
    "IA3": (IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]), "peft_type 'IA3'"),
    "prompt tuning": (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "peft_type 'PROMPT_TUNING'"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_adapters_of_other_kinds(made, tmp_path, kind):
    config, message = OTHERS[kind]
    get_peft_model(plain(made[0][False] / MODEL), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=message + ", allowed is LORA"):
        adopt(made, False, tmp_path / "out", adapter=str(tmp_path / "adapter"))


REFUSED = {
    "aLoRA": (config_says(alora_invocation_tokens=[1, 2]), "alora_invocation_tokens acts behind certain tokens"),
    "repeated layers": (config_says(layer_replication=[[0, 2], [1, 2]]), "layer_replication repeats layers"),
    "PiSSA": (config_says(init_lora_weights="pissa_niter_4"), "init_lora_weights 'pissa_niter_4'"),
    "OLoRA": (config_says(init_lora_weights="olora"), "weights that were changed when it was made"),
    "no rank": (config_says(r=None), "r: found a NoneType"),
    "a rank that is none": (config_says(r=-3), "r: found -3"),
    "a kind that is a list": (config_says(peft_type=["LORA"]), "peft_type a list"),
    "not finite": (
        lambda folder: damage(folder / "adapter_model.safetensors", float("nan")),
        r"adapter_model\.safetensors: .*lora_A.* holds numbers that are not finite",
    ),
}


def damage(file, value):
    tensors = load_file(file)
    tensors[sorted(tensors)[0]].view(-1)[3] = value
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize("case", REFUSED)
def test_adapters_that_can_not_be_merged(made, tmp_path, case):
    bases, _ = made
    breaking, message = REFUSED[case]
    save_adapter(tmp_path / "adapter", bases[False], FORMS["attention"])
    assert adapter_problem(tmp_path / "adapter") is None
    breaking(tmp_path / "adapter")
    with pytest.raises(ModelError, match=message) as caught:
        adopt(made, False, tmp_path / "out", adapter=str(tmp_path / "adapter"))
    assert str(caught.value).isprintable() and not (tmp_path / "out").exists()


def test_errors_of_a_base_name_the_users_folder(made, tmp_path):
    bases, _ = made
    theirs = save_base(tmp_path / "theirs")
    save_adapter(tmp_path / "adapter", bases[False], FORMS["attention"])
    file = theirs / "model.safetensors"
    with safe_open(file, "pt") as content:
        kept = {name: content.get_tensor(name) for name in content.keys() if "up_proj" not in name}  # noqa: SIM118
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack or do not fit .*up_proj") as caught:
        adopt(made, False, tmp_path / "out", base=str(theirs), adapter=str(tmp_path / "adapter"))
    assert str(theirs) in str(caught.value) and "tmp" not in str(caught.value).replace(str(tmp_path), "")


def test_the_setting_belongs_to_an_adapter():
    with pytest.raises(ValueError, match="quantized_training: merge is of an adapter"):
        External.model_validate({"kind": "external", "base": "x", "quantized_training": "merge"})
