"""Counts of the builtin families, reproduced from published shapes alone."""

import subprocess
import sys

import pytest
from transformers import BertConfig, GPTNeoXConfig, LlamaConfig, Qwen2Config

from hardscale.errors import ModelError
from hardscale.models.counts import (
    classifier_parameters,
    generative_parameters,
    language_model_parameters,
    model_shape,
)
from hardscale.models.ladder import BUILTIN_FAMILIES, BuiltinScale

PYTHIA = {
    "14m": (6, 128, 4, 50_304, 7_629_056, 7_628_800),
    "31m": (6, 256, 8, 50_304, 17_617_408, 17_616_896),
    "70m": (6, 512, 8, 50_304, 44_672_000, 44_670_976),
    "160m": (12, 768, 12, 50_304, 123_691_008, 123_689_472),
    "410m": (24, 1024, 16, 50_304, 353_824_768, 353_822_720),
    "1b": (16, 2048, 8, 50_304, 908_763_136, 908_759_040),
    "1.4b": (24, 2048, 16, 50_304, 1_311_629_312, 1_311_625_216),
    "2.8b": (32, 2560, 32, 50_304, 2_646_435_840, 2_646_430_720),
    "6.9b": (32, 4096, 32, 50_432, 6_650_740_736, 6_650_732_544),
    "12b": (36, 5120, 40, 50_688, 11_586_560_000, 11_586_549_760),
}
QWEN = {
    "0.5b": (24, 896, 4864, 14, 2, 151_936, True, 494_034_560, 494_032_768),
    "1.5b": (28, 1536, 8960, 12, 2, 151_936, True, 1_543_717_376, 1_543_714_304),
    "3b": (36, 2048, 11_008, 16, 2, 151_936, True, 3_085_942_784, 3_085_938_688),
    "7b": (28, 3584, 18_944, 28, 4, 152_064, False, 7_070_626_304, 7_615_616_512),
    "14b": (48, 5120, 13_824, 40, 8, 152_064, False, 13_991_476_224, 14_770_033_664),
}


def pythia_config(layers, width, heads, vocab):
    return GPTNeoXConfig(
        vocab_size=vocab,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )


@pytest.mark.parametrize("scale", PYTHIA)
def test_pythia_counts(scale):
    layers, width, heads, vocab, classifier, generative = PYTHIA[scale]
    config = pythia_config(layers, width, heads, vocab)
    known = BUILTIN_FAMILIES["pythia"][scale]
    assert classifier_parameters(config) == known.classifier_parameters == classifier
    assert generative_parameters(config) == known.generative_parameters == generative
    assert language_model_parameters(config) == generative + vocab * width
    assert known.pretrain_flops == 6 * generative * 299_892_736_000
    assert known.hub == f"EleutherAI/pythia-{scale}"
    _assert_shape(config, known)


@pytest.mark.parametrize("scale", QWEN)
def test_qwen_counts(scale):
    layers, width, intermediate, heads, kv_heads, vocab, tied, classifier, full = QWEN[scale]
    config = Qwen2Config(
        vocab_size=vocab,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
        tie_word_embeddings=tied,
    )
    known = BUILTIN_FAMILIES["qwen2.5"][scale]
    assert classifier_parameters(config) == known.classifier_parameters == classifier
    assert language_model_parameters(config) == known.generative_parameters == full
    assert generative_parameters(config) == classifier - 2 * width
    assert known.pretrain_tokens == (18e12 if scale == "0.5b" else 10.5e12)
    _assert_shape(config, known)


def _assert_shape(config, known: BuiltinScale):
    shape = model_shape(config)
    for name in ("n_layers", "width", "intermediate", "n_heads", "n_kv_heads", "vocab", "tied"):
        assert getattr(shape, name) == getattr(known, name)


def test_builtin_scales_are_listed_smallest_first():
    for scales in BUILTIN_FAMILIES.values():
        counts = [scale.classifier_parameters for scale in scales.values()]
        assert counts == sorted(counts)


def test_more_labels_add_rows_to_the_head():
    config = pythia_config(2, 32, 4, 300)
    assert classifier_parameters(config, 5) - classifier_parameters(config, 2) == 3 * 32
    assert config.num_labels == 2


def test_body_parameters_by_hand():
    width, intermediate, layers = 32, 96, 3
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=width,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    attention = width * width * 2 + width * 16 * 2
    assert model_shape(config).n_body_params == layers * (attention + 3 * width * intermediate)


def test_encoders_are_counted_too():
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    assert classifier_parameters(config, 3) - classifier_parameters(config, 2) == 17


def test_an_architecture_without_a_classifier_is_refused():
    from transformers import ViTConfig

    with pytest.raises(ModelError, match="no ModelForSequenceClassification"):
        classifier_parameters(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2))


def test_the_planning_side_imports_no_torch():
    code = (
        "import sys, hardscale.models.ladder, hardscale.models.flops, hardscale.models.sources, "
        "hardscale.models.folders, hardscale.models.check;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pandas', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
