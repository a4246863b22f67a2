"""Which kinds of model there is no use for here, each told by its own reason. No torch and no transformers here.

Attacks, replies and counts are made for decoders of attention over text; encoders can be classifiers. What transformers
knows besides is named for what it is, from ``config.json`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    """Why a model that can be a classifier can not write; None when nothing is known against it."""
    kind = config.get("model_type")
    if kind in _ENCODERS and config.get("is_decoder") is not True:
        return f"model_type {kind!r} is an encoder, which reads both ways and writes no replies; {_USE}"
    return None
