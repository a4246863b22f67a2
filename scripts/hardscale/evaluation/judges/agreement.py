"""How far judges agree: share of equal verdicts and Cohen's kappa, of replies on which both give one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any


def agreement(first: Sequence[bool | None], second: Sequence[bool | None]) -> dict[str, Any]:
    """Agreement of two judges on the same replies.

    Kappa is (p - e) / (1 - e) with p the share of equal verdicts and e the share expected of independent judges with
    the same rates; None where e is 1 (both always say the same one thing) or there are no pairs.

    Returns:
        ``n`` pairs of verdicts, ``share`` (None without pairs), ``kappa``.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    n = len(pairs)
    if not n:
        return {"n": 0, "share": None, "kappa": None}
    share = sum(a == b for a, b in pairs) / n
    rate_a, rate_b = (sum(pair[i] for pair in pairs) / n for i in (0, 1))
    expected = rate_a * rate_b + (1 - rate_a) * (1 - rate_b)
    return {"n": n, "share": share, "kappa": None if expected == 1 else (share - expected) / (1 - expected)}


def agreements(verdicts: Mapping[str, Sequence[bool | None]]) -> list[dict[str, Any]]:
    """Agreement of every pair of judges, in the order given."""
    return [
        {"first": a, "second": b, **agreement(verdicts[a], verdicts[b])} for a, b in combinations(list(verdicts), 2)
    ]
