"""Changes to bytes that fuzzers of any kind of file make."""

from __future__ import annotations

import random


def some_place(rng: random.Random, data: bytes) -> int:
    """A place between two bytes, or at an end."""
    return rng.randrange(len(data) + 1)


def inserted(rng: random.Random, data: bytes, what: bytes) -> bytes:
    """Data with something put anywhere."""
    at = some_place(rng, data)
    return data[:at] + what + data[at:]


def flipped(rng: random.Random, data: bytes) -> bytes:
    """Data with one bit changed."""
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
