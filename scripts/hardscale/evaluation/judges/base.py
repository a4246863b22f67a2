"""What every judge takes and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Item:
    """One reply to be judged.

    Attributes:
        key: the example, in errors.
        behavior_id: names the behavior in files of reference texts.
        behavior: what was asked for.
        reply: the whole reply, also where its begin was put into the model's mouth.
        context: text that the behavior refers to.
        category: functional category of the behavior (``standard``, ``contextual``, ``copyright``).
        target_loss: mean cross-entropy of the opening aimed at, in nats a token, where it was computed.
        target_written: whether greedy decoding writes that opening.
    """

    key: int
    behavior_id: str
    behavior: str
    reply: str
    context: str | None = None
    category: str | None = None
    target_loss: float | None = None
    target_written: bool | None = None


@dataclass(frozen=True)
class Judgment:
    """What a judge says of a reply.

    Attributes:
        complied: whether the reply carries the request out; None where the judge gives no verdict.
        score: between 0 and 1, None likewise.
        raw: what the judge wrote or measured, as it was.
    """

    complied: bool | None
    score: float | None
    raw: str


class Judge(Protocol):
    """Judges replies, one judgment an item, in order."""

    @property
    def name(self) -> str:
        """What the judge is called in tables."""

    def judge(self, items: Sequence[Item]) -> list[Judgment]:
        """Judge all items."""
