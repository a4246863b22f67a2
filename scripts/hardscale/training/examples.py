"""Generating a round's adversarial examples: the training attack, shared among ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hardscale.attacks.base import attack
from hardscale.attacks.codec import Codec
from hardscale.attacks.options import attack_options
from hardscale.models.flops import backward_flops, forward_flops
from hardscale.settings import AttackInTraining
from hardscale.stopping import REQUEUE
from hardscale.tasks.example import Example
from hardscale.training.clean import classify
from hardscale.training.pool import PoolEntry
from hardscale.training.session import Session


@dataclass(frozen=True)
class Generated:
    """A round's new pool entries, in the order of its examples, and what they cost by the convention (2N, 4N)."""

    entries: list[PoolEntry]
    flops: float

    @property
    def success_share(self) -> float:
        """Share of examples that the attack made the model misclassify."""
        return sum(entry.success for entry in self.entries) / len(self.entries)


def generate(
    module: nn.Module,
    tokenizer: Any,
    codec: Codec,
    examples: Sequence[Example],
    settings: AttackInTraining,
    *,
    n_iterations: int,
    round_number: int,
    n_labels: int,
    seed: int,
    session: Session,
) -> Generated:
    """Attack clean examples with the training attack; every rank gets all results.

    Args:
        module: the current model, frozen.
        tokenizer: its tokenizer.
        codec: the same as batched functions.
        examples: attacked whether or not the model classifies them correctly.
        settings: the training attack.
        n_iterations: of this round.
        round_number: kept with the entries.
        n_labels: with two classes the target is the other one; with more the likeliest wrong one.
        seed: of the attack in this round.
        session: the ranks; a lone rank that is told to stop leaves between iterations.
    """
    group = session.group
    targets, n_scored = _targets(module, codec, examples, n_labels, tokenizer.pad_token_id, session)
    mine = range(group.rank, len(examples), group.world)

    def leave_if_told(iteration: int, alive: int, seconds: float) -> None:  # noqa: ARG001
        # With other ranks the stop waits for the next training step, where all can agree on it.
        if session.stop_asked and group.world == 1:
            raise SystemExit(REQUEUE)

    results = attack(
        module,
        tokenizer,
        [examples[i].around(settings.position) for i in mine],
        [targets[i] for i in mine],
        labels=[examples[i].label for i in mine],
        keys=[examples[i].example_id for i in mine],
        n_iterations=n_iterations,
        seed=seed,
        **attack_options(settings),
        callback=leave_if_told,
    )
    told = [(r.prompt_text, bool(r.successes[-1]), r.forward_tokens[-1], r.backward_tokens[-1]) for r in results]
    parts = group.gather(told)
    ordered = [parts[i % group.world][i // group.world] for i in range(len(examples))]
    n_params = sum(parameter.numel() for parameter in module.parameters())
    n_forward = sum(row[2] for row in ordered) + n_scored
    return Generated(
        [
            PoolEntry(example.example_id, round_number, text, example.label, success)
            for example, (text, success, _, _) in zip(examples, ordered, strict=True)
        ],
        forward_flops(n_params, n_forward) + backward_flops(n_params, sum(row[3] for row in ordered)),
    )


def _targets(
    module: nn.Module, codec: Codec, examples: Sequence[Example], n_labels: int, pad_id: int, session: Session
) -> tuple[list[int], int]:
    """The class that the attack wants of each example, and the tokens read to find it."""
    labels = torch.tensor([example.label for example in examples])
    if n_labels == 2:
        return (1 - labels).tolist(), 0
    logits, n_tokens = classify(module, codec, [example.text for example in examples], session.group, pad_id)
    logits[torch.arange(len(labels)), labels] = -torch.inf
    return logits.argmax(dim=-1).tolist(), n_tokens
