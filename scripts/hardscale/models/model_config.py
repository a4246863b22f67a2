"""Reading and judging a model's ``config.json`` before transformers sees it. No torch and no transformers here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardscale.errors import ModelError
from hardscale.models.window import TEXT_PARTS, text_part
from hardscale.untrusted import guarded

CONFIG = "config.json"
_REMOTE_CODE = "auto_map asks to run code from the model folder, which is never done"
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
#: Whole numbers of a configuration and the most that a model on any cluster could mean.
_MOST = {
    **dict.fromkeys(_LAYERS, 2_000),
    **dict.fromkeys(("vocab_size", "intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size"), 20_000_000),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "n_embed", "embedding_size", "head_dim", "d_kv"), 1_000_000),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 10_000),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "num_experts_per_tok"), 10_000),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 10**9),
}
_MAY_BE_NEGATIVE = frozenset({"max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"})
_MOST_LAYERS_OF_ONE = 5_000
_SAVED = "give a folder written by save_pretrained"


_USE = "use a decoder of text such as gpt_neox, llama or qwen2"
_RECURRENT = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv", "recurrent_gemma", "xlstm", "hyena", "retnet"})
_ENCODER_DECODERS = frozenset(
    {
        *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "fsmt", "led", "longt5"),
        *("m2m_100", "marian", "mbart", "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "t5"),
        *("seamless_m4t", "seamless_m4t_v2", "switch_transformers", "t5gemma", "t5gemma2", "umt5", "xlm-prophetnet"),
    }
)
_OTHER_INPUTS = frozenset(
    {
        *(
            "aria",
            "audioflamingo3",
            "aya_vision",
            "blip",
            "blip-2",
            "chameleon",
            "clip",
            "cohere2_vision",
            "deepseek_vl",
        ),
        *(
            "emu3",
            "florence2",
            "fuyu",
            "gemma3",
            "gemma3n",
            "gemma4",
            "git",
            "glm4v",
            "glm4v_moe",
            "got_ocr2",
            "idefics",
        ),
        *("idefics2", "idefics3", "instructblip", "internvl", "janus", "kosmos-2", "lfm2_vl", "llama4", "llava"),
        *("llava_next", "llava_next_video", "llava_onevision", "minicpmv", "mistral3", "mllama", "moshi", "musicgen"),
        *("musicgen_melody", "ovis2", "paligemma", "perception_lm", "phi4_multimodal", "pix2struct", "qwen2_5_omni"),
        *("qwen2_5_vl", "qwen2_audio", "qwen2_vl", "qwen3_omni_moe", "qwen3_vl", "qwen3_vl_moe", "siglip", "smolvlm"),
        *("trocr", "video_llava", "vipllava", "vision-encoder-decoder", "vit", "voxtral", "wav2vec2", "whisper"),
    }
)
_INPUTS = {"vision_config": "images", "vision_tower": "images", "visual": "images", "audio_config": "sound"}
_ENCODERS = frozenset(
    {
        *("albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta", "deberta-v2"),
        *("distilbert", "electra", "ernie", "esm", "eurobert", "flaubert", "fnet", "funnel", "ibert", "layoutlm"),
        *("longformer", "luke", "markuplm", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra", "nomic_bert"),
        *("nystromformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "squeezebert", "xlm"),
        *("xlm-roberta", "xlm-roberta-xl", "xmod", "yoso"),
    }
)


def read_object(path: Path, what: str, remedy: str = "fetch or save the model again") -> dict[str, Any]:
    """The JSON object in a small file of a model folder.

    Raises:
        ModelError: it is missing, no regular file, no JSON of some depth, or no object.
    """
    if not os.path.lexists(path):
        raise ModelError(f"{guarded.shown(path)}: missing; give a folder written by save_pretrained")
    text = guarded.read_text(path, what, error=ModelError)
    value = guarded.parse_json(text, f"{guarded.shown(path)}: not readable as JSON", what, error=ModelError)
    if not isinstance(value, dict):
        found = type(value).__name__
        raise ModelError(f"{guarded.shown(path)}: expected a JSON object, found {found}; {remedy}")
    return value


def read_model_config(folder: Path) -> dict[str, Any]:
    """What the ``config.json`` of a folder holds.

    Raises:
        ModelError: see :func:`read_object`.
    """
    return read_object(folder / CONFIG, "a model's configuration")


def config_problem(path: Path, config: Mapping[str, Any]) -> str | None:
    """What is wrong with a configuration, in one line with the next step; None when nothing is known to be."""
    shown = guarded.shown(path)
    if "auto_map" in config:
        return f"{shown}: {_REMOTE_CODE}; use a model that transformers knows"
    if "model_type" not in config:
        return f"{shown}: no model_type; give a folder written by save_pretrained"
    if not isinstance(config["model_type"], str) or not config["model_type"].isprintable():
        return f"{shown}: model_type: found a {type(config['model_type']).__name__} that names none; {_SAVED}"
    problem = kind_problem(config)
    if problem:
        return f"{shown}: {problem}"
    quantized = config.get("quantization_config")
    if quantized:
        kind = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else "unknown"
        return f"{shown}: quantized weights ({str(kind)[:40]}) cannot be trained; use the full-precision model"
    return _numbers_problem(shown, config)


def n_layers(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Blocks that the text part of a configuration says it has, and those with what predicts further tokens.

    None where it does not say.
    """
    text = text_part(config)
    found = next((text[key] for key in _LAYERS if type(text.get(key)) is int), None)
    more = text.get("num_nextn_predict_layers")
    return None if found is None else (found, found + (more if type(more) is int and more > 0 else 0))


def _numbers_problem(shown: str, config: Mapping[str, Any]) -> str | None:
    for part in TEXT_PARTS[:3]:
        if config.get(part) is not None and not isinstance(config[part], dict):
            return f"{shown}: {part}: found {type(config[part]).__name__}, allowed is a mapping; {_SAVED}"
    text = text_part(config)
    for key, most in _MOST.items():
        value = text.get(key)
        if value is None:
            continue
        for one in value if isinstance(value, list) and len(value) <= _MOST_LAYERS_OF_ONE and value else [value]:
            least = -1 if key in _MAY_BE_NEGATIVE else 1
            if type(one) is not int or not least <= one <= most:
                found = f"{one:,}" if type(one) is int and abs(one) < 10**18 else _named(one)
                return f"{shown}: {key}: found {found}, allowed are whole numbers from 1 to {most:,}; {_SAVED}"
    return None


def _named(value: Any) -> str:
    return "a number of many digits" if type(value) is int else f"a {type(value).__name__}"


def kind_problem(config: Mapping[str, Any]) -> str | None:
    """Why no model of this kind can be used, for a message; None when nothing is known against it."""
    kind = config.get("model_type")
    shown = f"model_type {kind!r}"
    if kind in _RECURRENT:
        return (
            f"{shown} is a state-space or recurrent model, which has no attention over stored keys and values that "
            f"attacks, replies and counts rely on; {_USE}"
        )
    if kind in _ENCODER_DECODERS or config.get("is_encoder_decoder") is True:
        return f"{shown} is an encoder-decoder, which reads a prompt and writes with two networks; {_USE}"
    inputs = next((what for key, what in _INPUTS.items() if config.get(key)), None)
    if inputs or kind in _OTHER_INPUTS:
        return (
            f"{shown} reads {inputs or 'images or sound'} besides text, which is not supported; save its language "
            f"model alone, or {_USE}"
        )
    return None


def writing_problem(config: Mapping[str, Any]) -> str | None:
    """Why a model that can be a classifier cannot write; None when nothing is known against it."""
    kind = config.get("model_type")
    if kind in _ENCODERS and config.get("is_decoder") is not True:
        return f"model_type {kind!r} is an encoder, which reads both ways and writes no replies; {_USE}"
    return None
