"""Merging an adapter into the weights of its base, and seeing that the merged model is the adapted one.

PEFT loads what fits and says little of the rest. Whole tensors of embeddings and head that an adapter's file holds
(LoRA on them, trained copies, a resized vocabulary) are part of it. A base whose head is its embedding is taken apart
where the adapter changes one of them alone, as the adapted model computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from hardscale.errors import ModelError
from hardscale.models.folders import ADAPTER_WEIGHTS
from hardscale.models.safetensors_header import TensorEntry, read_safetensors_header
from hardscale.untrusted import guarded

#: Before names of the base's modules in an adapter's file.
_PREFIX = "base_model.model."
#: Tokens on which the merged model is compared with the adapted one, and how far their logits may differ.
_CHECKED_TOKENS, _CLOSE = 24, 1e-3


def merged(model: Any, adapter: Path) -> tuple[Any, dict[str, Any]]:
    """The model with the adapter's changes in its own weights, and what was done to it besides.

    Args:
        model: the base, in float32; changed in place.
        adapter: folder of a LoRA adapter in safetensors.

    Raises:
        ModelError: no package ``peft``, an adapter of another base, or one that cannot be merged.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(
            f"adapter: {adapter}: the package `peft` is missing; install it with `pip install peft`"
        ) from error
    stored = read_safetensors_header(adapter / ADAPTER_WEIGHTS)
    done: dict[str, Any] = {}
    try:
        with torch.random.fork_rng(devices=[]):
            rows = resized_rows(model, adapter)
            if rows is not None:
                model.resize_token_embeddings(rows, mean_resizing=False)
                done["vocabulary"] = rows
            handle = PeftModel.from_pretrained(model, str(adapter), torch_device="cpu").eval()
            _check_whole(handle, adapter, stored)
            wanted = _logits(handle, model)
            tied = _taken_apart(handle.get_base_model())
            result = handle.merge_and_unload(safe_merge=True)
            if tied and not _tied_again(result):
                done["untied"] = True
            _check_same(wanted, _logits(result, result), adapter)
    except ModelError:
        raise
    except Exception as error:  # whatever a malformed adapter leads the library into
        reason = guarded.shown(" ".join(str(error).split())[:200])
        raise ModelError(
            f"adapter: {adapter}: does not fit its base ({reason}); give the base it was made on"
        ) from error
    return result, done


def _whole_rows(stored: Mapping[str, TensorEntry]) -> dict[str, int]:
    """Rows of the embeddings and heads that an adapter's file holds whole, by the name of the module in the base."""
    found = {}
    for name, entry in stored.items():
        module = name.removeprefix(_PREFIX).removesuffix(".weight").removesuffix(".base_layer")
        module = module.removesuffix(".modules_to_save").removesuffix(".default")
        if name.endswith(".weight") and ".lora_" not in name and len(entry.shape) == 2:
            found[module] = entry.shape[0]
    return found


def resized_rows(model: Any, adapter: Path) -> int | None:
    """Embeddings that an adapter was trained with, where the base has another number of them.

    Raises:
        ModelError: the adapter's file lacks a part of such a model.
    """
    names = {id(module): name for name, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    whole = _whole_rows(read_safetensors_header(adapter / ADAPTER_WEIGHTS))
    said = {names[id(part)]: whole.get(names[id(part)]) for part in (embedding, head) if part is not None}
    rows = {n for n in said.values() if n is not None} - {embedding.weight.shape[0]}
    if not rows:
        return None
    tied = head is None or head.weight is embedding.weight
    absent = [name for name, n in said.items() if n is None]
    if len(rows) > 1 or (absent and not tied):
        raise ModelError(
            f"adapter: {adapter}: its vocabulary has {max(rows):,} tokens and its base {embedding.weight.shape[0]:,}, "
            f"and {', '.join(absent) or 'one part'} is not in it; give a model that was saved whole as `base`"
        )
    return max(rows)


def _check_whole(handle: Any, adapter: Path, stored: Mapping[str, TensorEntry]) -> None:
    """PEFT passes over tensors that it finds no layer for, and draws those that it finds no tensor for."""
    from peft import get_peft_model_state_dict

    odd = set(get_peft_model_state_dict(handle, save_embedding_layers=False)) ^ set(stored)
    if odd:
        odd -= _base_tensors(handle, adapter, odd & set(stored))
    if odd:
        raise ModelError(
            f"adapter: {adapter}: {len(odd)} tensors have no counterpart in the base, such as {sorted(odd)[0]}; "
            "give the base it was made on"
        )


def _base_tensors(handle: Any, adapter: Path, names: set[str]) -> set[str]:
    """Those that are weights of the base itself, and were loaded into it."""
    weights = handle.state_dict()
    found = set()
    with safe_open(adapter / ADAPTER_WEIGHTS, "pt") as file:
        for name in names:
            mine = weights.get(name)
            theirs = file.get_tensor(name)
            if mine is not None and mine.shape == theirs.shape and torch.equal(mine, theirs.to(mine.dtype)):
                found.add(name)
    return found


def _taken_apart(model: Any) -> bool:
    """Give a head that is the embedding weights of its own; whether it was one."""
    embedding, head = (_inner(part) for part in (model.get_input_embeddings(), model.get_output_embeddings()))
    if head is None or head.weight is not embedding.weight:
        return False
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False
    return True


def _inner(module: Any) -> Any:
    """The layer of the base inside what PEFT puts around it."""
    while module is not None:
        for name in ("base_layer", "original_module"):
            if isinstance(inner := getattr(module, name, None), nn.Module):
                module = inner
                break
        else:
            return module
    return None


def _tied_again(model: Any) -> bool:
    """Make head and embedding one again where they are still equal."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not torch.equal(embedding.weight, head.weight):
        return False
    head.weight = embedding.weight
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = True
    return True


@torch.no_grad()
def _logits(model: Any, base: Any) -> torch.Tensor:
    """Of some tokens from all over the vocabulary, shape ``(1, tokens, vocabulary)``."""
    n = base.get_input_embeddings().weight.shape[0]
    ids = torch.linspace(0, n - 1, min(_CHECKED_TOKENS, n)).long()[None]
    logits: torch.Tensor = model.eval()(input_ids=ids).logits
    return logits


def _check_same(wanted: torch.Tensor, found: torch.Tensor, adapter: Path) -> None:
    scale = float(wanted.abs().max().clamp(min=1.0))
    if not bool(torch.isfinite(wanted).all()):
        raise ModelError(f"adapter: {guarded.shown(adapter)}: its outputs are not finite; give another adapter")
    if wanted.shape != found.shape or float((wanted - found).abs().max()) > _CLOSE * scale:
        raise ModelError(
            f"adapter: {guarded.shown(adapter)}: the merged model does not compute what the adapted one does; merge it "
            "elsewhere and give `base`"
        )
