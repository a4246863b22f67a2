"""Clean evaluation: what a classifier says of unattacked validation examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hardscale.attacks.codec import Codec
from hardscale.runtime import pulse
from hardscale.tasks.example import Example
from hardscale.training.batches import TokenRow, collate
from hardscale.training.distributed import Group

#: Tokens of one forward pass, padding included.
_TOKENS_PER_BATCH = 4_096


def classify(
    module: nn.Module, codec: Codec, texts: Sequence[str], group: Group, pad_id: int
) -> tuple[torch.Tensor, int]:
    """Class logits of texts, shared among ranks; every rank gets all.

    Args:
        module: classifier in evaluation mode.
        codec: its tokenizer.
        texts: whole prompts, the same on every rank.
        group: the ranks.
        pad_id: padding token.

    Returns:
        Logits of shape (texts, classes), float32 on the CPU, and the number of tokens read, without padding.
    """
    mine = list(range(group.rank, len(texts), group.world))
    encoded = codec.encode_prompts([texts[i] for i in mine])
    found: dict[int, list[float]] = {}
    for batch in _batches([len(ids) for ids in encoded]):
        pulse.beat()
        rows = [TokenRow(mine[i], encoded[i]) for i in batch]
        tensors = collate(rows, len(rows), pad_id, pad_id)
        with torch.no_grad():
            logits = module(
                input_ids=tensors.input_ids.to(group.device), attention_mask=tensors.attention_mask.to(group.device)
            ).logits.float()
        found.update(zip((row.key for row in rows), logits.tolist(), strict=True))
    parts = group.gather((found, sum(map(len, encoded))))
    merged = {key: row for part, _ in parts for key, row in part.items()}
    return torch.tensor([merged[i] for i in range(len(texts))]), sum(n for _, n in parts)


def evaluate_clean(
    module: nn.Module, codec: Codec, examples: Sequence[Example], group: Group, pad_id: int
) -> list[dict[str, Any]]:
    """Rows of CLEAN: prediction and cross-entropy of each example. Ties go to the lower class."""
    logits, _ = classify(module, codec, [example.text for example in examples], group, pad_id)
    labels = torch.tensor([example.label for example in examples])
    losses = functional.cross_entropy(logits, labels, reduction="none").tolist()
    predictions = logits.argmax(dim=-1).tolist()
    return [
        {"example_id": e.example_id, "label": e.label, "prediction": prediction, "loss": loss}
        for e, prediction, loss in zip(examples, predictions, losses, strict=True)
    ]


def accuracy(rows: Sequence[dict[str, Any]]) -> float:
    """Share of CLEAN rows that are right."""
    return sum(row["prediction"] == row["label"] for row in rows) / len(rows)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in batches of similar length, each at most ``_TOKENS_PER_BATCH`` padded tokens (or one row)."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[index] <= _TOKENS_PER_BATCH:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
