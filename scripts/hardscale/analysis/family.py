"""One family-wise correction over what a study says of models like its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hardscale.analysis.intervals import Interval

AtLevel = Callable[[float], Interval]
#: Key of a row under which its interval stands as a function of the level: the row belongs to the family.
AT_LEVEL = "at_level"
LEVEL = 0.95


def corrected(rows: Sequence[dict[str, Any]], level: float = LEVEL) -> list[dict[str, Any]]:
    """Rows with ``family_low``, ``family_high`` and ``family_size`` where they belong to the family.

    Bonferroni: with ``m`` members each interval has level ``1 - (1 - level) / m``, so that all of them together cover
    in at least ``level`` of draws, whatever their dependence. A decision by them is therefore wrong for any member in
    at most ``1 - level`` of studies. Two claims about one quantity share its interval, and count once.

    Args:
        rows: with a function of the level under :data:`AT_LEVEL` where they belong.
        level: of all intervals together.
    """
    size = sum(AT_LEVEL in row for row in rows)
    found = []
    for row in rows:
        plain = {name: value for name, value in row.items() if name != AT_LEVEL}
        if AT_LEVEL in row:
            low, high = row[AT_LEVEL](1 - (1 - level) / size)
            plain |= {"family_low": low, "family_high": high, "family_size": size}
        found.append(plain)
    return found
