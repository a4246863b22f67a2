"""Weights that are not finite are refused by the tensor's name, read in parts so that no tensor is ever whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open

from hardscale import guarded
from hardscale.errors import ModelError
from hardscale.models.safetensors_header import FLOATS, TensorEntry, read_safetensors_header

#: Numbers read at a time.
_PART = 8_000_000


def check_finite(files: Iterable[Path]) -> None:
    """Look at every floating-point number of some safetensors files.

    Raises:
        ModelError: a tensor holds infinities or what is no number; names file and tensor.
    """
    for file in files:
        tensors = read_safetensors_header(file)
        with safe_open(file, "pt") as content:
            for name in sorted(tensors):
                if tensors[name].dtype in FLOATS and not _is_finite(content, name, tensors[name]):
                    raise ModelError(
                        f"{guarded.shown(file)}: {guarded.shown(name)} holds numbers that are not finite; the model is "
                        "damaged: fetch or save it again"
                    )


def _is_finite(content: safe_open, name: str, entry: TensorEntry) -> bool:
    if not entry.shape or 0 in entry.shape:
        return bool(torch.isfinite(content.get_tensor(name)).all())
    rows = content.get_slice(name)
    row = 1
    for n in entry.shape[1:]:
        row *= n
    step = max(_PART // row, 1)
    return all(bool(torch.isfinite(rows[i : i + step]).all()) for i in range(0, entry.shape[0], step))
