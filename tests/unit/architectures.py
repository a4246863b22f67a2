"""Every causal language model and sequence classifier of transformers, tiny, from its configuration class."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

CAUSAL, CLASSIFIERS = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
#: Largest model that counts as tiny; what has tables of fixed size is larger.
_MOST_PARAMETERS = 4_000_000
VOCAB = 96
#: Sizes by every name that a configuration may have for them; each class gets those that it knows.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size", "emb_dim", "n_embed"), 32),
    **dict.fromkeys(("dim_model", "moe_intermediate_size", "shared_expert_intermediate_size", "lru_width"), 32),
    **dict.fromkeys(("shared_intermediate_size", "attention_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_decoder_layers", "num_encoder_layers", "num_key_value_heads", "num_experts_per_tok"), 2),
    **dict.fromkeys(("num_experts_per_token", "moe_topk", "type_vocab_size", "index_n_heads", "n_mamba_heads"), 2),
    **dict.fromkeys(("linear_num_key_heads", "mamba_expand"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("rotary_dim", "linear_num_value_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff", "dff", "encoder_ffn_dim", "hidden_dim"), 64),
    **dict.fromkeys(("decoder_ffn_dim", "ffn_hidden_size", "d_inner", "mamba_d_ssm", "index_topk"), 64),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("d_head", "attention_head_dim", "hidden_size_per_layer_input", "index_head_dim"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_d_head", "mamba_d_state", "state_size", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_head_dim", "ssm_state_size", "linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "bottleneck_size"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"), 128),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "first_k_dense_replace"), 1),
    "vocab_size_per_layer_input": VOCAB,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 2,
}
_MLA = dict.fromkeys(("num_key_value_heads",), 4)
_FOUR = {"num_hidden_layers": 4}
#: What single families want besides.
_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots3_note", "esmc"), _MLA),
    **dict.fromkeys(("dots3_note_text", "glm4_moe_lite", "glm_moe_dsa", "longcat_flash", "minicpm3", "youtu"), _MLA),
    **dict.fromkeys(("lfm3", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), _FOUR),
    "recurrent_gemma": _FOUR,
    "bailing_hybrid": {"num_key_value_heads": 4, "num_hidden_layers": 8},
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "jamba": {"num_hidden_layers": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    "granite": {"logits_scaling": 8.0, "embedding_multiplier": 12.0},
    "t5": {"decoder_start_token_id": 0},
    "mistral": {"sliding_window": None},
    "zaya": {"num_experts_per_tok": 1},
}
#: Encoders that are language models only as decoders.
ENCODERS = (
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl"),
)


def config(kind: str, **changes: Any) -> Any:
    """A configuration of the text part of a family."""
    made = CONFIG_MAPPING[kind]()
    text = made.get_text_config()
    known = {*text.to_dict(), *(getattr(text, "attribute_map", None) or {})}
    sizes = {name: value for name, value in _SIZES.items() if name in known}
    return type(text)(**{**sizes, **_OWN.get(kind, {}), **changes})


def build(factory: Any, kind: str, **changes: Any) -> Any:
    """A random model whose losses react to single tokens; equal arguments give equal models.

    Raises:
        LookupError: transformers does not build the family tiny from such a configuration.
    """
    try:
        settings = config(kind, **changes)
        with torch.device("meta"):
            n_parameters = sum(parameter.numel() for parameter in factory.from_config(settings).parameters())
    except Exception as error:  # many reasons, all of them about the configuration
        raise LookupError(f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:120]}") from error
    if n_parameters > _MOST_PARAMETERS:
        raise LookupError(f"{kind}: {n_parameters} parameters")
    torch.manual_seed(0)
    try:
        model = factory.from_config(settings)
    except Exception as error:
        raise LookupError(f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:120]}") from error
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(4.0)
    return model.eval().requires_grad_(False)


def language_model(kind: str, **changes: Any) -> Any:
    """A causal language model."""
    if kind in ENCODERS:
        changes = {"is_decoder": True, **changes}
    return build(AutoModelForCausalLM, kind, **changes)


def classifier(kind: str, **changes: Any) -> Any:
    """A sequence classifier of two classes."""
    return build(AutoModelForSequenceClassification, kind, **changes)


def plain(model: Any, ids: list[int], embeds: list[torch.Tensor] | None = None, **more: Any) -> torch.Tensor:
    """Logits by the library's own forward of one prompt; ``embeds`` gets what its embedding module gave, as leaves."""
    tokens = torch.tensor([ids])
    seen = contextlib.nullcontext() if embeds is None else _watched(model.get_input_embeddings(), embeds)
    with seen:
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **more).logits[0].float()


@contextlib.contextmanager
def _watched(embedding: torch.nn.Module, kept: list[torch.Tensor]) -> Any:
    def watch(_module: Any, _inputs: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor):
            return output  # of a kind that gradients are refused for
        kept.append(output.detach().requires_grad_(True))
        return kept[-1].clone()

    handle = embedding.register_forward_hook(watch)
    try:
        yield
    finally:
        handle.remove()
