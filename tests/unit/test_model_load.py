"""Classifiers from base models: seeded, independent of global randomness, byte-stable when saved."""

import json

import pytest
import torch
from model_kit import make_language_model, path_family, prepared_path, prepared_scratch
from transformers import BertConfig, BertModel, GPTNeoXForCausalLM, LlamaForCausalLM

from hardscale.artifacts.publish import publishing
from hardscale.errors import ArtifactError, ModelError
from hardscale.models.load import (
    MODEL,
    load_classifier,
    load_tokenizer,
    new_classifier,
    new_language_model,
    save_model,
)
from hardscale.models.prepare import prepare_model
from hardscale.models.scratch import initialize_


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def publish_model(folder, model, tokenizer):
    with publishing(folder, "model", {}) as draft:
        save_model(model, tokenizer, draft.path / MODEL)
    return folder


@pytest.mark.parametrize("kind", ["scratch", "llama", "qwen2", "gpt_neox"])
def test_a_new_classifier_depends_on_its_seed_alone(kind, tmp_path):
    base = prepared_scratch(tmp_path) if kind == "scratch" else prepared_path(tmp_path, kind)
    torch.manual_seed(1)
    one = new_classifier(base, 2, seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())  # loading left the global state alone
    torch.manual_seed(2)
    two, other = new_classifier(base, 2, seed=5), new_classifier(base, 2, seed=6)
    assert equal(weights(one), weights(two))
    assert not torch.equal(one.score.weight, other.score.weight)
    body = dict(one.base_model.state_dict())
    assert equal(body, dict(other.base_model.state_dict())) == (kind != "scratch")
    assert one.training and one.config.pad_token_id == load_tokenizer(base).pad_token_id


@pytest.mark.parametrize("kind", ["scratch", "llama"])
def test_batches_with_right_padding(kind, tmp_path):
    base = prepared_scratch(tmp_path) if kind == "scratch" else prepared_path(tmp_path, kind)
    model, tokenizer = new_classifier(base, 3, seed=0).eval(), load_tokenizer(base)
    batch = tokenizer(["System: ab", "System: abcdefgh\n\nAnswer:"], padding=True, return_tensors="pt")
    assert batch["attention_mask"][0, -1] == 0
    with torch.no_grad():
        logits = model(**batch).logits
        alone = model(**tokenizer("System: ab", return_tensors="pt")).logits
    assert logits.shape == (2, 3)
    assert torch.allclose(logits[:1], alone, atol=1e-6)


def test_scratch_initialization_has_the_asked_spread(tmp_path):
    model = new_classifier(prepared_scratch(tmp_path), 2, seed=0)
    assert model.gpt_neox.embed_in.weight.std().item() == pytest.approx(0.5, rel=0.05)
    assert model.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.score.weight.std().item() == pytest.approx(0.02, rel=0.4)
    assert torch.equal(model.gpt_neox.final_layer_norm.weight, torch.ones(16))
    assert not model.gpt_neox.layers[0].attention.query_key_value.bias.any()


def test_language_model_and_classifier_of_one_seed_share_their_body(tmp_path):
    base = prepared_scratch(tmp_path)
    classifier, language = new_classifier(base, 2, seed=3), new_language_model(base, seed=3)
    assert equal(dict(classifier.base_model.state_dict()), dict(language.base_model.state_dict()))


def test_a_pretrained_scratch_base_keeps_its_body(tmp_path):
    base = prepared_scratch(tmp_path)
    language = new_language_model(base, seed=3)
    with torch.no_grad():
        language.gpt_neox.embed_in.weight.add_(1.0)
    with publishing(tmp_path / "pretrained", "base_model", {}) as draft:
        save_model(language, load_tokenizer(base), draft.path / MODEL)
    model = new_classifier(tmp_path / "pretrained", 2, seed=4)
    assert equal(dict(model.base_model.state_dict()), dict(language.base_model.state_dict()))
    assert equal(weights(new_language_model(tmp_path / "pretrained", seed=9)), weights(language))


def test_the_body_is_the_checkpoint_and_the_head_is_new(tmp_path):
    base = prepared_path(tmp_path)
    original = LlamaForCausalLM.from_pretrained(tmp_path / "origin-llama")
    model = new_classifier(base, 2, seed=0)
    assert equal(dict(model.base_model.state_dict()), dict(original.base_model.state_dict()))
    again = publish_model(tmp_path / "trained", model, load_tokenizer(base)) / MODEL
    prepare_model("mine", "s", path_family(again), [], tmp_path / "base2", 0)
    assert torch.equal(new_classifier(tmp_path / "base2", 2, seed=0).score.weight, model.score.weight)
    assert new_classifier(tmp_path / "base2", 5, seed=1).score.weight.shape == (5, 16)


def test_saved_bytes_are_stable(tmp_path):
    base = prepared_scratch(tmp_path)
    first = publish_model(tmp_path / "a", new_classifier(base, 2, seed=0, labels=["NO", "YES"]), load_tokenizer(base))
    model, tokenizer = load_classifier(first)
    assert not model.training and model.config.id2label == {0: "NO", 1: "YES"}
    second = publish_model(tmp_path / "b", model, tokenizer)
    names = sorted(path.name for path in (first / MODEL).iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    for name in names:
        assert (first / MODEL / name).read_bytes() == (second / MODEL / name).read_bytes(), name
        assert (first / MODEL / name).stat().st_mode == (first / MODEL / "config.json").stat().st_mode
    assert (
        str(tmp_path)
        not in (first / MODEL / "config.json").read_text() + (first / MODEL / "tokenizer_config.json").read_text()
    )


def test_a_gathered_state_dict_is_what_is_saved(tmp_path):
    base = prepared_scratch(tmp_path)
    model = new_classifier(base, 2, seed=0)
    state = {name: value + 1 for name, value in model.state_dict().items()}
    with publishing(tmp_path / "m", "model", {}) as draft:
        save_model(model, load_tokenizer(base), draft.path / MODEL, state_dict=state)
    assert equal(weights(load_classifier(tmp_path / "m")[0]), state)


def test_half_precision(tmp_path):
    base = prepared_scratch(tmp_path)
    model = new_classifier(base, 2, seed=0, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert torch.equal(model.score.weight, new_classifier(base, 2, seed=0).score.weight.bfloat16())


def test_a_base_is_not_a_finished_classifier(tmp_path):
    base = prepared_path(tmp_path)
    with pytest.raises(ArtifactError, match="expected 'model'"):
        load_classifier(base)
    with publishing(tmp_path / "headless", "model", {}) as draft:
        make_language_model(draft.path / MODEL)
    with pytest.raises(ModelError, match=r"lack or do not fit score\.weight"):
        load_classifier(tmp_path / "headless")


def test_weights_of_another_shape_are_refused(tmp_path):
    with publishing(tmp_path / "base", "base_model", {}) as draft:
        folder = make_language_model(draft.path / MODEL)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"lack or do not fit model\.layers\.2"):
        new_classifier(tmp_path / "base", 2, seed=0)
    with pytest.raises(ModelError, match=r"lack or do not fit model\.layers\.2"):
        new_language_model(tmp_path / "base", seed=0)


def test_label_names_must_be_as_many_as_labels(tmp_path):
    with pytest.raises(ModelError, match="found 1 names for 2 classes"):
        new_classifier(prepared_scratch(tmp_path), 2, seed=0, labels=["one"])


def test_an_encoder_can_be_a_classifier(tmp_path):
    origin = make_language_model(tmp_path / "bert")  # for its tokenizer
    n_tokens = len(load_tokenizer_of(origin))
    config = BertConfig(
        vocab_size=n_tokens, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(origin)
    prepare_model("mine", "s", path_family(origin), [], tmp_path / "base", 0)
    one, two = (new_classifier(tmp_path / "base", 2, seed=1) for _ in range(2))
    assert equal(weights(one), weights(two))
    assert one(**load_tokenizer(tmp_path / "base")(["a", "abc"], padding=True, return_tensors="pt")).logits.shape == (
        2,
        2,
    )


def load_tokenizer_of(folder):
    from hardscale.models.load import read_tokenizer

    return read_tokenizer(folder)


def test_initialize_covers_every_parameter(tmp_path):
    config = new_language_model(prepared_scratch(tmp_path), seed=0).config
    one, two = GPTNeoXForCausalLM(config), GPTNeoXForCausalLM(config)
    for model in (one, two):
        initialize_(model, 7, 0.02, 0.5)
    assert equal(weights(one), weights(two))
