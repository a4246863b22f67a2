"""From examples to tensors: the order of an epoch, the rows of a rank, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hardscale.artifacts.seeds import derive_seed


@dataclass(frozen=True)
class Row:
    """One tokenized training row.

    Attributes:
        key: what errors call it: the example's id.
        ids: token ids, at least one.
        label: class index; unused by language modeling.
        pool_index: place in the pool of adversarial examples, if it is one of them.
    """

    key: int
    ids: list[int]
    label: int = 0
    pool_index: int | None = None


@dataclass(frozen=True)
class Batch:
    """Right-padded rows of one forward pass.

    Attributes:
        input_ids: (rows, longest) int64.
        attention_mask: (rows, longest) int64, 1 on tokens.
        labels: (rows,) int64.
        weights: (rows,) float32: 1 for a row, 0 for one that only fills the batch.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


def collate(rows: Sequence[Row], n_rows: int, pad_id: int, filler: int) -> Batch:
    """Pad ``rows`` to the longest and to ``n_rows`` rows; the added rows hold one token and weigh nothing."""
    filled = [row.ids for row in rows] + [[filler]] * (n_rows - len(rows))
    longest = max(map(len, filled))
    lengths = torch.tensor([len(ids) for ids in filled])
    return Batch(
        input_ids=torch.tensor([ids + [pad_id] * (longest - len(ids)) for ids in filled]),
        attention_mask=(torch.arange(longest) < lengths[:, None]).long(),
        labels=torch.tensor([row.label for row in rows] + [0] * (n_rows - len(rows))),
        weights=torch.tensor([1.0] * len(rows) + [0.0] * (n_rows - len(rows))),
    )


@dataclass(frozen=True)
class Order:
    """Which examples each optimizer step sees: a fresh seeded permutation in every epoch, the last batch may be short.

    Attributes:
        n_examples: examples of an epoch.
        batch_size: examples of a step over all ranks.
        seed: of the permutations.
    """

    n_examples: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass."""
        return math.ceil(self.n_examples / self.batch_size)

    def n_steps(self, epochs: float) -> int:
        """Steps of a possibly fractional number of passes, at least 1."""
        return max(1, math.ceil(epochs * self.steps_per_epoch - 1e-9))

    def at(self, step: int) -> tuple[int, list[int]]:
        """Epoch and example indices of a 0-based step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._permutation(epoch)
        return epoch, order[place * self.batch_size : (place + 1) * self.batch_size]

    def _permutation(self, epoch: int) -> list[int]:
        cached = self.__dict__.get("_cached")
        if cached is None or cached[0] != epoch:
            rng = np.random.default_rng(derive_seed(self.seed, "order", epoch))
            cached = (epoch, rng.permutation(self.n_examples).tolist())
            object.__setattr__(self, "_cached", cached)
        return cached[1]
