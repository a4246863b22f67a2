"""From examples to tensors: the order of an epoch, the rows of a rank, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from hardscale.artifacts.seeds import derive_seed


@dataclass(frozen=True)
class TokenRow:
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


def collate(rows: Sequence[TokenRow], n_rows: int, pad_id: int, filler: int) -> Batch:
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


class Objective(Protocol):
    """A loss that is a weighted mean over rows."""

    #: Further arguments of the model's forward pass.
    forward_arguments: dict[str, Any]

    def row_losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Summed loss of each row, shape (rows,), float32."""

    def weight(self, row: TokenRow) -> int:
        """Terms of a row's sum: what it adds to the mean's denominator."""


class Classification:
    """Cross-entropy of the class at the last token; logits of shape (rows, classes)."""

    forward_arguments: dict[str, Any] = {}  # noqa: RUF012 - never written

    def row_losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross-entropy of each row."""
        return functional.cross_entropy(logits.float(), batch.labels, reduction="none")

    def weight(self, row: TokenRow) -> int:  # noqa: ARG002
        """One."""
        return 1


class LanguageModeling:
    """Cross-entropy of every next token; logits of shape (rows, tokens, vocabulary)."""

    forward_arguments: dict[str, Any] = {"use_cache": False}  # noqa: RUF012 - never written

    def row_losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Summed cross-entropy of each row's tokens after the first."""
        targets = batch.input_ids[:, 1:]
        losses = functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, reduction="none")
        return (losses * batch.attention_mask[:, 1:]).sum(dim=1)

    def weight(self, row: TokenRow) -> int:
        """Predicted tokens."""
        return len(row.ids) - 1
