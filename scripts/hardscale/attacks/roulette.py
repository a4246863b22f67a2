"""Drawing by fitness, where fitness is a negative loss."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal, TypeVar

_T = TypeVar("_T")


def chances(fitness: Sequence[float], kind: Literal["softmax", "sum"]) -> list[float]:
    """The probability of each.

    ``softmax``: ``exp(f_i) / sum_j exp(f_j)``. ``sum``: ``f_i / sum_j f_j`` as published, which prefers the worse of
    negative fitness values.
    """
    if kind == "softmax":
        top = max(fitness)
        weights = [math.exp(value - top) for value in fitness]
    else:
        weights = [abs(value) for value in fitness]  # all of one sign, which cancels in the quotient
    total = sum(weights)
    return [weight / total if total > 0 else 1 / len(weights) for weight in weights]


def spin(
    things: Sequence[_T], fitness: Sequence[float], n: int, kind: Literal["softmax", "sum"], rng: random.Random
) -> list[_T]:
    """``n`` things drawn with replacement."""
    return rng.choices(things, weights=chances(fitness, kind), k=n)
