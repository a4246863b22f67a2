"""What a statement asks of an interval, and what the interval says of it: supported, refuted or undecided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

from hardscale.analysis.estimands import THESE
from hardscale.analysis.intervals import Interval

Outcome = Literal["supported", "refuted", "undecided"]

#: About these models, of two shares of largely the same examples, whose rows are not at hand: as if of different ones.
UNPAIRED = f"{THESE}, unpaired"

#: Share of clean accuracy that a defense may cost and still be said to keep it.
MARGIN = 0.02


AtLevel = Callable[[float], Interval]
#: Key of a row under which its interval stands as a function of the level: the row belongs to the family.
AT_LEVEL = "at_level"
LEVEL = 0.95


@dataclass(frozen=True)
class Statement:
    """A quantity lies above, or below, a number.

    Attributes:
        name: of the claim.
        above: whether above ``against`` is what is claimed.
        against: the number.
    """

    name: str
    above: bool
    against: float = 0.0

    def outcome(self, low: float | None, high: float | None) -> Outcome:
        """Supported when the interval lies wholly on the stated side, refuted when wholly on the other.

        An interval that includes the number, or has no bounds, decides nothing.
        """
        if low is None or high is None or isnan(low) or isnan(high):
            return "undecided"
        if low > self.against:
            return "supported" if self.above else "refuted"
        if high < self.against:
            return "refuted" if self.above else "supported"
        return "undecided"


#: What is measured -> what is stated of it.
STATEMENTS = {
    "gradient": (Statement("gradient_helps", above=True),),
    "random": (Statement("gcg_beats_random_token", above=True),),
    "iterations": (Statement("more_iterations_help", above=True),),
    "defense": (Statement("defense_lowers_asr", above=False),),
    "kinds": (Statement("rounds_beat_continuous", above=False),),
    "accuracy": (
        Statement("defense_costs_accuracy", above=False),
        Statement("defense_keeps_accuracy", above=True, against=-MARGIN),
    ),
    "size": (Statement("larger_is_more_robust", above=False),),
}


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
