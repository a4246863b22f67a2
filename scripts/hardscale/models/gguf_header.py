"""What the header of a .gguf file says of its model, read without the package that converts it. No torch here."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from hardscale.errors import ModelError
from hardscale.untrusted import guarded

#: Number of a type -> how `struct` reads one.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: What no header of a language model reaches: entries, bytes of a text, values of a list, lists within lists.
_MOST_ENTRIES, _MOST_BYTES, _MOST_VALUES, _MOST_DEPTH = 10_000, 16 * 1024**2, 4_000_000, 3


class _BrokenError(Exception):
    """The file is not what its format allows."""


def read_header(file: Path) -> dict[str, Any]:
    """The entries of a .gguf header: numbers and texts as they are, of a list its length.

    Raises:
        ModelError: the file cannot be opened, or its header is cut or malformed.
    """
    with guarded.opened(file, "a .gguf model", error=ModelError) as stream:
        try:
            return _entries(stream)
        except (_BrokenError, struct.error, UnicodeDecodeError, OSError) as error:
            raise ModelError(
                f"{guarded.shown(file)}: cannot be converted (its header is cut or malformed); fetch it again"
            ) from error


def config_of(header: dict[str, Any]) -> dict[str, Any]:
    """What a ``config.json`` of the same model would say of kind, window and vocabulary."""
    kind = header.get("general.architecture")
    named = {"model_type": kind, "max_position_embeddings": header.get(f"{kind}.context_length")}
    size = header.get(f"{kind}.vocab_size") or header.get("tokenizer.ggml.tokens")
    return {**named, "vocab_size": size}


def _entries(stream: BinaryIO) -> dict[str, Any]:
    if stream.read(4) != b"GGUF":
        raise _BrokenError
    version, _, n_entries = struct.unpack("<IQQ", _exactly(stream, 20))
    if version not in (2, 3) or n_entries > _MOST_ENTRIES:
        raise _BrokenError
    found = {}
    for _ in range(n_entries):
        key = _text(stream)
        (kind,) = struct.unpack("<I", _exactly(stream, 4))
        found[key] = _value(stream, kind, 0)
    return found


def _value(stream: BinaryIO, kind: int, depth: int) -> Any:
    if kind in _SCALARS:
        return _scalar(stream, kind)
    if kind == _STRING:
        return _text(stream)
    if kind != _ARRAY or depth >= _MOST_DEPTH:
        raise _BrokenError
    inner, n = struct.unpack("<IQ", _exactly(stream, 12))
    if n > _MOST_VALUES:
        raise _BrokenError
    if inner in _SCALARS:
        _pass_over(stream, n * struct.calcsize(f"<{_SCALARS[inner]}"))
    elif inner == _STRING:
        for _ in range(n):
            _pass_over(stream, _length(stream))
    else:
        for _ in range(n):
            _value(stream, inner, depth + 1)
    return n


def _scalar(stream: BinaryIO, kind: int) -> Any:
    form = f"<{_SCALARS[kind]}"
    return struct.unpack(form, _exactly(stream, struct.calcsize(form)))[0]


def _text(stream: BinaryIO) -> str:
    return _exactly(stream, _length(stream)).decode("utf-8")


def _length(stream: BinaryIO) -> int:
    (n,) = struct.unpack("<Q", _exactly(stream, 8))
    if n > _MOST_BYTES:
        raise _BrokenError
    return int(n)


def _pass_over(stream: BinaryIO, n: int) -> None:
    if n and len(stream.read(n)) != n:
        raise _BrokenError


def _exactly(stream: BinaryIO, n: int) -> bytes:
    content = stream.read(n)
    if len(content) != n:
        raise _BrokenError
    return content
