"""Weights that are not finite are refused by the tensor's name, read in chunks, so that no tensor is loaded whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from hardscale.errors import ModelError
from hardscale.models.safetensors_header import FLOATS, TensorEntry, read_safetensors_header
from hardscale.untrusted import guarded

#: Numbers read at a time.
_PART = 8_000_000


def check_finite(files: Iterable[Path]) -> None:
    """Look at every floating-point number of some safetensors files.

    Raises:
        ModelError: a tensor holds infinities or what is no number; names file and tensor.
    """
    for file in files:
        tensors = read_safetensors_header(file)
        try:
            damaged = _first_damaged(file, tensors)
        except (SafetensorError, OSError, RuntimeError) as error:
            reason = guarded.shown(" ".join(str(error).split())[:200])
            raise ModelError(
                f"{guarded.shown(file)}: not a safetensors file, or truncated ({reason}); fetch or save the model again"
            ) from error
        if damaged is not None:
            raise ModelError(
                f"{guarded.shown(file)}: {guarded.shown(damaged)} holds numbers that are not finite; the model is "
                "damaged: fetch or save it again"
            )


def _first_damaged(file: Path, tensors: Mapping[str, TensorEntry]) -> str | None:
    with safe_open(file, "pt") as content:
        floats = (name for name in sorted(tensors) if tensors[name].dtype in FLOATS)
        return next((name for name in floats if not _is_finite(content, name, tensors[name])), None)


def _is_finite(content: safe_open, name: str, entry: TensorEntry) -> bool:
    if not entry.shape or 0 in entry.shape:
        return bool(torch.isfinite(content.get_tensor(name)).all())
    rows = content.get_slice(name)
    row = 1
    for n in entry.shape[1:]:
        row *= n
    step = max(_PART // row, 1)
    return all(bool(torch.isfinite(rows[i : i + step]).all()) for i in range(0, entry.shape[0], step))
