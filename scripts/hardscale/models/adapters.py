"""Judging the folder of a PEFT adapter from its files alone. No torch, transformers or peft here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardscale.errors import ModelError
from hardscale.models.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS, pickled_files
from hardscale.models.model_config import read_object
from hardscale.models.safetensors_header import FLOATS, read_safetensors_header
from hardscale.untrusted import guarded

#: Settings of an adapter that change the base, or when the adapter acts: what is merged would be another model.
_NOT_TO_MERGE = {
    "megatron_config": "asks to import a module by name, which is never done",
    "alora_invocation_tokens": "acts behind certain tokens alone, which no merged weights do",
    "layer_replication": "repeats layers of its base, which plain weights of its architecture cannot",
    "arrow_config": "routes between adapters, which no merged weights do",
}
#: Ways to start an adapter that take something off the base's own weights.
_OTHER_BASES = ("pissa", "olora", "corda", "loftq", "mica")
_QUANTIZED_NAME = re.compile(r"(?<![a-z0-9])(bnb|4bit|8bit|int4|int8|nf4|gptq|awq|aqlm|hqq|eetq|fp8)(?![a-z0-9])")
_CARD_PHRASES = (
    re.compile(r"load_in_([48])bit['\"]?\s*[:=]\s*true", re.IGNORECASE),
    re.compile(
        r"quant_method['\"]?\s*[:=]\s*['\"]?(?:quantizationmethod\.)?(bitsandbytes|bits_and_bytes|gptq|awq)", re.I
    ),
)
_LONGEST_CARD = 1024**2


def adapter_problem(folder: Path) -> str | None:
    """What is wrong with the folder of a PEFT adapter; none when it can be merged into a model."""
    if not guarded.is_folder(folder):
        return f"{guarded.shown(folder)}: no such folder; give a folder with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"
    path = folder / ADAPTER_CONFIG
    try:
        return _config_problem(guarded.shown(path), read_adapter_config(folder)) or _weights_problem(folder)
    except ModelError as error:
        return str(error)


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """What the ``adapter_config.json`` of a folder holds.

    Raises:
        ModelError: it is missing or no JSON object.
    """
    return read_object(folder / ADAPTER_CONFIG, "an adapter's configuration", "give an adapter saved by peft")


def quantized_training(folder: Path) -> str | None:
    """What tells that an adapter was trained on quantized weights, for a message; None where nothing does.

    An adapter's files need not say it. Looked at are the name of its base, that base's configuration where it lies at
    hand, how the adapter was started, and the note on training that peft writes into the model card.

    Raises:
        ModelError: the configuration cannot be read.
    """
    config = read_adapter_config(folder)
    name = config.get("base_model_name_or_path")
    if isinstance(name, str) and (found := _QUANTIZED_NAME.search(name.lower())):
        return f"base_model_name_or_path says {found[1]} in {ADAPTER_CONFIG}"
    if config.get("init_lora_weights") == "loftq" or config.get("loftq_config"):
        return f"LoftQ in {ADAPTER_CONFIG}"
    if config.get("use_qalora"):
        return f"use_qalora in {ADAPTER_CONFIG}"
    for key in ("quantization_config", "bnb_config"):
        if config.get(key):
            return f"{key} in {ADAPTER_CONFIG}"
    if isinstance(name, str) and _base_config(name).get("quantization_config"):
        return f"quantization_config of its base {guarded.shown(name)}"
    return _said_in_card(folder / "README.md")


def quantized_problem(folder: Path, wanted: str) -> str | None:
    """Why an adapter that was trained on quantized weights is not merged; None where it may be, or was not.

    Args:
        folder: of the adapter.
        wanted: the study's ``quantized_training``.
    """
    try:
        found = None if wanted == "merge" else quantized_training(folder)
    except ModelError as error:
        return str(error)
    if found is None:
        return None
    return (
        f"{guarded.shown(folder)}: trained on quantized weights ({found}), and it would be merged into weights that it "
        "never saw; set quantized_training: merge to do so and have it noted, or give a merged model as `base`"
    )


def _base_config(name: str) -> dict[str, Any]:
    """Of a local base, if there is one."""
    try:
        folder = guarded.expanded(name, "a base", ModelError)
        return read_object(folder / "config.json", "a base's configuration")
    except ModelError:
        return {}


def _said_in_card(card: Path) -> str | None:
    try:
        text = guarded.read_text(card, "a model card", max_bytes=_LONGEST_CARD, byte_order_mark=True, error=ModelError)
    except ModelError:
        return None
    found = next((match for phrase in _CARD_PHRASES if (match := phrase.search(text))), None)
    if found is None:
        return None
    return f"{found[1]}-bit weights in {card.name}" if found[1].isdigit() else f"{found[1].lower()} in {card.name}"


def _config_problem(shown: str, config: Mapping[str, Any]) -> str | None:
    kind = config.get("peft_type")
    if kind != "LORA":
        found = repr(kind)[:40] if isinstance(kind, str) else f"a {type(kind).__name__}"
        return f"{shown}: peft_type {found}, allowed is LORA; merge others elsewhere and give `base`"
    for key, reason in _NOT_TO_MERGE.items():
        if config.get(key):
            return f"{shown}: {key} {reason}; merge it elsewhere and give `base`"
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_OTHER_BASES):
        return (
            f"{shown}: init_lora_weights {start[:20]!r}: the adapter belongs to weights that were changed when it was "
            "made, which are not here; convert it to plain LoRA with peft (path_initial_model_for_weight_conversion), "
            "or merge it elsewhere and give `base`"
        )
    for key in ("r", "lora_alpha"):
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e6:
            return f"{shown}: {key}: found {_brief(value)}, allowed are numbers from 1; give an adapter saved by peft"
    return None


def _brief(value: Any) -> str:
    return f"{value}" if isinstance(value, int | float) and abs(value) < 1e9 else f"a {type(value).__name__}"


def _weights_problem(folder: Path) -> str | None:
    weights = folder / ADAPTER_WEIGHTS
    if not os.path.lexists(weights):
        pickled = next((file.name for file in pickled_files(folder)), None)
        if pickled:
            return (
                f"{folder / pickled}: a pickled adapter is never loaded (it can run code) and there is no "
                f"{ADAPTER_WEIGHTS}; convert it where you trust it"
            )
        return f"{guarded.shown(weights)}: missing; give an adapter saved by peft"
    tensors = read_safetensors_header(weights)
    odd = sorted({entry.dtype for entry in tensors.values()} - FLOATS)
    if odd:
        return (
            f"{guarded.shown(weights)}: quantized tensors ({', '.join(odd)}) cannot be merged; give a full-precision "
            "adapter"
        )
    if not tensors:
        return f"{guarded.shown(weights)}: no tensors in it; give an adapter saved by peft"
    return None
