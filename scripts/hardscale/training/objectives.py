"""What a training step minimizes: a loss for each row and the weight that the row has in the mean."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch.nn import functional

from hardscale.training.batches import Batch, Row


class Objective(Protocol):
    """A loss that is a weighted mean over rows."""

    #: Further arguments of the model's forward pass.
    forward_arguments: dict[str, Any]

    def row_losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Summed loss of each row, shape (rows,), float32."""

    def weight(self, row: Row) -> int:
        """Terms of a row's sum: what it adds to the mean's denominator."""


class Classification:
    """Cross-entropy of the class at the last token; logits of shape (rows, classes)."""

    forward_arguments: dict[str, Any] = {}  # noqa: RUF012 - never written

    def row_losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross-entropy of each row."""
        return functional.cross_entropy(logits.float(), batch.labels, reduction="none")

    def weight(self, row: Row) -> int:  # noqa: ARG002
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

    def weight(self, row: Row) -> int:
        """Predicted tokens."""
        return len(row.ids) - 1
