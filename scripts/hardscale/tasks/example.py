"""One example of a task: a prompt in chunks, exactly one of which an attack may change."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

Position = Literal["suffix", "infix90", "prefix"]

#: Where attack text goes: range of the place in the modifiable chunk, as a share of its characters.
POSITIONS: dict[str, tuple[float, float]] = {"suffix": (1.0, 1.0), "infix90": (0.9, 0.9), "prefix": (0.0, 0.0)}

#: What an attack may do to a chunk: nothing, insert text into it, or replace it.
IMMUTABLE, PERTURBABLE, OVERWRITABLE = "immutable", "perturbable", "overwritable"


@dataclass(frozen=True)
class Example:
    """A labeled prompt.

    Attributes:
        example_id: the row's index in its source split, before anything was dropped or shuffled; unique in a split.
        chunks: the prompt in pieces, joined without separator.
        modifiable: index of the one chunk that attacks may change.
        label: class index.
    """

    example_id: int
    chunks: tuple[str, ...]
    modifiable: int
    label: int

    @property
    def text(self) -> str:
        """The whole prompt."""
        return "".join(self.chunks)

    def around(self, position: Position | None, rng: random.Random | None = None) -> tuple[str, str]:
        """The prompt before and after the place where attack text goes (appendix on attacks).

        The place is a character index drawn uniformly from ``[int(L * low), int(L * high)]`` of the modifiable chunk
        of ``L`` characters. Every position known so far has ``low == high``, so ``rng`` is only needed by wider ones;
        without it the lower end is taken.
        """
        chunk = self.chunks[self.modifiable]
        low, high = (int(len(chunk) * share) for share in POSITIONS[position or "suffix"])
        place = low if rng is None or low == high else rng.randint(low, high)
        before = "".join(self.chunks[: self.modifiable]) + chunk[:place]
        after = chunk[place:] + "".join(self.chunks[self.modifiable + 1 :])
        return before, after

    def with_text_inserted(self, text: str, position: Position) -> str:
        """The whole prompt with attack text in its place."""
        before, after = self.around(position)
        return before + text + after


@dataclass(frozen=True)
class BuiltTask:
    """A task's two splits and what is constant in it, before it is published.

    Attributes:
        train: training examples in their final order.
        validation: validation examples in their final order; none is also in ``train``.
        labels: label strings in class order, each with the leading space that follows the answer prompt.
        chunk_kinds: what an attack may do to each chunk.
        pieces: constant strings of the prompt, for tokenizers that keep each whole.
        facts: where the rows come from and what was left out.
    """

    train: list[Example]
    validation: list[Example]
    labels: tuple[str, ...]
    chunk_kinds: tuple[str, ...]
    pieces: tuple[str, ...]
    facts: dict[str, Any]
