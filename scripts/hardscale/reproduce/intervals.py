"""Whether two measured rates differ by more than chance explains, at one false-alarm rate for a whole run.

Where sums depend on the hardware (a GPU), a job made again gives other last bits, now and then another candidate and
so another text. Rates are then compared and not bytes: Fisher's exact test of two proportions, whose false-alarm rate
never exceeds its level at any number of examples, at the level ``rate / number of comparisons`` (Bonferroni). Both runs
look at the same examples, which makes their rates agree more than independent ones and the test more cautious still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardscale.ops.outcome import DIFFERS, WITHIN, Finding

FALSE_ALARM_RATE = 0.01


@dataclass(frozen=True)
class Rates:
    """Successes and trials of one rate, expected and found."""

    what: str
    expected: tuple[int, int]
    found: tuple[int, int]

    @property
    def difference(self) -> float | None:
        """Absolute difference of the two rates; None where one has no trials."""
        if not self.expected[1] or not self.found[1]:
            return None
        return abs(self.expected[0] / self.expected[1] - self.found[0] / self.found[1])


def p_value(expected: tuple[int, int], found: tuple[int, int]) -> float:
    """Two-sided p-value of Fisher's exact test that two rates are one; 1 where one has no trials."""
    from scipy.stats import fisher_exact

    (k, n), (l, m) = expected, found  # noqa: E741 - k of n and l of m
    if not n or not m:
        return 1.0
    return float(fisher_exact([[k, n - k], [l, m - l]]).pvalue)


def compare_rates(rates: Sequence[Rates], false_alarm_rate: float = FALSE_ALARM_RATE) -> list[Finding]:
    """A finding for each rate; the chance that any is called drift while all are equal is at most the given one."""
    level = false_alarm_rate / max(len(rates), 1)
    found = []
    for one in rates:
        p = p_value(one.expected, one.found)
        words = [f"{k}/{n}" + (f" = {k / n:.3f}" if n else "") for k, n in (one.expected, one.found)]
        text = f"{words[1]} (p = {p:.2g}, level {level:.2g})"
        found.append(Finding(one.what, DIFFERS if p < level else WITHIN, words[0], text, one.difference))
    return found
