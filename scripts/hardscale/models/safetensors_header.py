"""The header of a safetensors file: names, types and shapes of its tensors, checked before a library maps them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.errors import ModelError
from hardscale.untrusted import guarded

#: Type of a tensor -> bits of one number.
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_MOST_DIMENSIONS = 16
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_PACKED = frozenset(kind for kind in _BITS if kind.startswith(("F8", "F6", "F4")))
_LFS_POINTER = b"version https://git-lfs"
_AGAIN = "fetch or save the model again"


@dataclass(frozen=True)
class TensorEntry:
    """What a header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


def read_safetensors_header(file: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file, by name.

    The length that the header promises is compared with the file's, which finds truncated downloads at no cost.

    Raises:
        ModelError: no such file, a Git LFS pointer, or not what the format allows.
    """
    shown = guarded.shown(file)
    with guarded.opened(file, "model weights", error=ModelError) as stream:
        size = file.stat().st_size
        start = stream.read(8)
        if start and _LFS_POINTER.startswith(start):
            raise ModelError(f"{shown}: a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if not 2 <= length <= size - 8:
            raise ModelError(f"{shown}: not a safetensors file, or truncated; {_AGAIN}")
        if length > guarded.SMALL_BYTES:
            raise ModelError(
                f"{shown}: found a header of {length:,} bytes, allowed for model weights are {guarded.SMALL_BYTES:,}; "
                f"{_AGAIN}"
            )
        content = stream.read(length)
    if guarded.text_problem(content):
        raise ModelError(f"{shown}: not a safetensors file, or truncated (its header is no text); {_AGAIN}")
    where = f"{shown}: not a safetensors file, or truncated"
    header = guarded.parse_json(content.decode("utf-8"), where, "its header", error=ModelError)
    return _entries(header, shown, size - 8 - length)


def _entries(header: Any, shown: str, n_bytes: int) -> dict[str, TensorEntry]:
    wrong = ModelError(f"{shown}: not a safetensors file, or truncated (its header is malformed); {_AGAIN}")
    if not isinstance(header, dict):
        raise wrong
    found: dict[str, TensorEntry] = {}
    places: list[tuple[int, int]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
                raise wrong
            continue
        read = _entry(entry)
        if read is None:
            raise wrong
        found[name], place = read
        places.append(place)
    end = max((stop for _, stop in places), default=0)
    if end != n_bytes:
        size, wanted = n_bytes, end
        raise ModelError(f"{shown}: {size:,} bytes of tensors where its header says {wanted:,} (truncated?); {_AGAIN}")
    at = 0
    for start, stop in sorted(places):
        if start != at:
            raise wrong
        at = stop
    return found


def _entry(entry: Any) -> tuple[TensorEntry, tuple[int, int]] | None:
    """What is said of one tensor and where it lies; None where that is malformed."""
    if not isinstance(entry, dict):
        return None
    kind, shape, place = entry.get("dtype"), _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if not isinstance(kind, str) or kind not in _BITS:
        return None
    if shape is None or place is None or len(place) != 2 or len(shape) > _MOST_DIMENSIONS:
        return None
    bits = math.prod(shape) * _BITS[kind]
    if bits % 8 or bits // 8 != place[1] - place[0]:
        return None
    return TensorEntry(kind, shape), (place[0], place[1])


def _counts(value: Any) -> tuple[int, ...] | None:
    """A list of whole numbers of 63 bits; None for anything else."""
    if not isinstance(value, list) or not all(type(one) is int and 0 <= one < 2**63 for one in value):
        return None
    return tuple(value)


def quantized_kinds(tensors: dict[str, TensorEntry]) -> list[str]:
    """Types of weights that are packed or scaled numbers; buffers of whole numbers are none."""
    weights = {entry.dtype for name, entry in tensors.items() if name.endswith("weight") and entry.dtype not in FLOATS}
    return sorted(weights | ({entry.dtype for entry in tensors.values()} & _PACKED))
