"""Which rows a step of continuous training sees: seeded, the same on every rank, whatever order the data came in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import TrainingError

if TYPE_CHECKING:
    from hardscale.settings.defenses import CAdvIPO, CAdvUL


class Kind(Enum):
    """What a row of training is."""

    ADVERSARIAL = "adversarial"
    UTILITY = "utility"


@dataclass(frozen=True)
class Triple:
    """A harmful request with its harmful and its safe answer (the paper's x, y-hat, y), as tokens.

    Both answers follow the same prompt tokens, so one perturbation of the prompt lies under both.

    Attributes:
        key: (row of the behavior, number of the target): names the triple wherever it stands in the data.
        prompt: everything up to where the answer begins, template included.
        span: first and one past the last prompt token that an attack may perturb.
        away: the harmful answer.
        toward: the safe one.
    """

    key: tuple[int, int]
    prompt: tuple[int, ...]
    span: tuple[int, int]
    away: tuple[int, ...]
    toward: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """Of the longer of its two sequences."""
        return len(self.prompt) + max(len(self.away), len(self.toward))


@dataclass(frozen=True)
class Conversation:
    """An ordinary conversation as tokens.

    Attributes:
        key: its row.
        ids: all tokens, cut to the longest length allowed.
        first_label: the first token that is learned; their number where the cut left none.
    """

    key: int
    ids: tuple[int, ...]
    first_label: int

    @property
    def n_tokens(self) -> int:
        """Of the whole conversation."""
        return len(self.ids)


@dataclass(frozen=True)
class Pick:
    """A row of a step: its kind, and its index among the triples or the conversations."""

    kind: Kind
    index: int


class Stream:
    """The numbers 0 to n - 1 in a seeded order, then again in another one, and so on without end."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._seed = n, seed
        self._known: tuple[int, list[int]] = (-1, [])

    def at(self, place: int) -> int:
        """The number at a place of the sequence, from 0."""
        epoch, within = divmod(place, self._n)
        if self._known[0] != epoch:
            order = np.random.default_rng(derive_seed(self._seed, epoch)).permutation(self._n)
            self._known = (epoch, order.tolist())
        return self._known[1][within]


class Mix:
    """Adversarial and utility rows in a fixed proportion: every triple once before any is seen again.

    Row r of the training is adversarial where ``floor((r + 1) share) > floor(r share)``, so that each step holds its
    share to within one row, and a small one possibly none; the order within a step is drawn.

    Args:
        n_triples: adversarial rows to draw from.
        n_talks: conversations to draw from.
        batch_size: rows of a step.
        share: adversarial share of the rows.
        seed: of all orders.

    Raises:
        TrainingError: nothing to draw from.
    """

    def __init__(self, n_triples: int, n_talks: int, batch_size: int, share: float, seed: int) -> None:
        if not n_triples:
            raise TrainingError("task: no behavior to train against is left; give task.train behaviors that fit")
        if share < 1 and not n_talks:
            raise TrainingError(
                f"adversarial_share: found {share:g}, but the task has no conversations for the other rows; "
                "give the task `utility`, or adversarial_share: 1"
            )
        self.batch_size, self._share, self._seed = batch_size, share, seed
        self._triples = Stream(n_triples, derive_seed(seed, "adversarial"))
        self._talks = Stream(n_talks, derive_seed(seed, "utility")) if n_talks else None

    def at(self, step: int) -> list[Pick]:
        """The rows of a 0-based step, in the order in which micro-batches are cut."""
        picks = []
        for row in range(step * self.batch_size, (step + 1) * self.batch_size):
            before = self._n_adversarial(row)
            if self._n_adversarial(row + 1) > before:
                picks.append(Pick(Kind.ADVERSARIAL, self._triples.at(before)))
            else:
                assert self._talks is not None
                picks.append(Pick(Kind.UTILITY, self._talks.at(row - before)))
        order = np.random.default_rng(derive_seed(self._seed, "order", step)).permutation(len(picks))
        return [picks[i] for i in order]

    def _n_adversarial(self, n_rows: int) -> int:
        """Adversarial rows among the first so many (the small term: 0.29 * 100 is 28.999... and means 29)."""
        return math.floor(n_rows * self._share + 1e-9)


def n_steps(settings: CAdvUL | CAdvIPO, n_triples: int) -> int:
    """Optimizer steps of a training: an epoch has as many whole steps as its adversarial rows fill."""
    if settings.steps:
        return settings.steps
    per_epoch = math.floor(n_triples / settings.adversarial_share / settings.batch_size + 1e-9)
    return max(1, math.floor(settings.epochs * max(1, per_epoch) + 1e-9))


@dataclass(frozen=True)
class Part:
    """The rows of one micro-batch."""

    triples: tuple[Triple, ...] = ()
    talks: tuple[Conversation, ...] = ()


def arrange(rows: Sequence[Triple | Conversation], world: int, micro: int, as_drawn: bool) -> list[list[Part]]:
    """Cut a step's rows into micro-batches, as many for each rank; some may be empty.

    Args:
        rows: of the step, in drawn order.
        world: ranks.
        micro: rows of a micro-batch.
        as_drawn: keep the drawn order (means over a micro-batch depend on it). Otherwise adversarial rows come first
            and neighbors have similar lengths, so that few micro-batches need an attack and padding is small.

    Returns:
        for each rank its micro-batches.
    """
    per_rank = math.ceil(math.ceil(len(rows) / world) / micro)
    if as_drawn:
        cut = [rows[start : start + micro] for start in range(0, len(rows), micro)]
        return [[_part(p) for p in _filled(cut[rank::world], per_rank)] for rank in range(world)]
    ordered = sorted(rows, key=lambda row: (isinstance(row, Conversation), row.n_tokens, row.key))
    shares = [ordered[rank::world] for rank in range(world)]
    return [[_part(share[i * micro : (i + 1) * micro]) for i in range(per_rank)] for share in shares]


def _filled(parts: list[Sequence[Triple | Conversation]], n: int) -> list[Sequence[Triple | Conversation]]:
    return [*parts, *[()] * (n - len(parts))]


def _part(rows: Sequence[Triple | Conversation]) -> Part:
    return Part(
        tuple(row for row in rows if isinstance(row, Triple)),
        tuple(row for row in rows if isinstance(row, Conversation)),
    )
