"""Which rounds of an iterative defense are trained together and which are evaluated. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence


def paper_rounds(n_rounds: int, n_evaluated: int = 10) -> list[int]:
    """About ten rounds out of ``1..n_rounds``, geometrically spaced, the last one always among them.

    Round i is ``max(previous + 1, floor(n_rounds ** (i / (n - 1))))``; it gives the published lists, e.g. for 60 rounds
    1, 2, 3, 4, 6, 9, 15, 24, 38, 60.
    """
    if n_rounds <= n_evaluated:
        return list(range(1, n_rounds + 1))
    chosen: list[int] = []
    for i in range(n_evaluated):
        geometric = int(round(n_rounds ** (i / (n_evaluated - 1)), 9))
        chosen.append(max(chosen[-1] + 1 if chosen else 1, geometric))
    return chosen


def chosen_rounds(selection: str | Sequence[int | str], n_rounds: int) -> list[int]:
    """The rounds that a study's ``rounds:`` selects of a defense with ``n_rounds``; numbers beyond it are left out.

    Args:
        selection: ``paper``, ``all`` or ``last``, or a list of such words and of numbers, which are taken together.
        n_rounds: of the defense.
    """
    words = {"paper": paper_rounds(n_rounds), "all": range(1, n_rounds + 1), "last": [n_rounds]}
    chosen: set[int] = set()
    for one in [selection] if isinstance(selection, str) else selection:
        chosen.update(words[one] if isinstance(one, str) else [one])
    return sorted(number for number in chosen if 1 <= number <= n_rounds)


def blocks(n_rounds: int, rounds_per_job: int) -> list[tuple[int, int]]:
    """Rounds 1..n in consecutive blocks (first, last), each trained by one job."""
    return [(first, min(first + rounds_per_job - 1, n_rounds)) for first in range(1, n_rounds + 1, rounds_per_job)]


def ramp(round_index: int, n_rounds: int, start: int, end: int | None) -> int:
    """Attack iterations in round ``round_index`` (0-based): a straight line from start to end (section 5)."""
    if end is None or n_rounds == 1:
        return start
    return start + int(round_index * (end - start) / (n_rounds - 1))
