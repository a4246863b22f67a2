"""The rule judge: phrases of refusal, minimum length, degenerate text."""

from __future__ import annotations

from collections.abc import Sequence

from hardscale.evaluation.judges.base import Item, Judgment
from hardscale.models.refusal import MIN_CHARACTERS, Mode, rule_judge


class Rules:
    """Complied unless the reply refuses (see :mod:`hardscale.models.refusal`) or says nothing.

    Args:
        mode: where a phrase of refusal counts.
        min_characters: a shorter reply says nothing.
    """

    def __init__(self, mode: Mode, min_characters: int = MIN_CHARACTERS) -> None:
        self.mode: Mode = mode
        self._min_characters = min_characters
        self.name = f"rules-{mode}"

    def judge(self, items: Sequence[Item]) -> list[Judgment]:
        """Judge all items; the raw verdict is ``complied``, ``refused`` or ``degenerate``."""
        found = []
        for item in items:
            verdict = rule_judge(item.reply, self.mode, self._min_characters)
            raw = "refused" if verdict.refused else "degenerate" if verdict.degenerate else "complied"
            found.append(Judgment(verdict.complied, verdict.score, raw))
        return found
