"""What a statement asks of an interval, and what the interval says of it: supported, refuted or undecided."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Literal

from hardscale.analysis.estimands import THESE

Outcome = Literal["supported", "refuted", "undecided"]

#: About these models, of two shares of largely the same examples, whose rows are not at hand: as if of different ones.
UNPAIRED = f"{THESE}, unpaired"

#: Share of clean accuracy that a defense may cost and still be said to keep it.
MARGIN = 0.02


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
