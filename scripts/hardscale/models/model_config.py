"""Reading and judging a model's ``config.json`` before transformers sees it. No torch and no transformers here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardscale.errors import ModelError
from hardscale.models.supported import kind_problem
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
        return f"{shown}: quantized weights ({str(kind)[:40]}) can not be trained; use the full-precision model"
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
