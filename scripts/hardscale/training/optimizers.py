"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from hardscale.runtime.instruction_set import is_pinned
from hardscale.settings.defenses import AdversarialRounds
from hardscale.settings.training import OptimizerSettings


def build_optimizer(parameters: Iterable[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer of a settings block; Adafactor at fixed scale as in the paper's appendix on training.

    Without factors, Adafactor keeps the running mean of every squared gradient instead of those of rows and columns.
    Its update is clipped by the root mean square of each tensor, and under ZeRO 1 and above of each partition, so its
    numbers depend a little on the stage.
    """
    if settings.kind == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            # By itself it takes MKL's square root, which starts from an estimate that each maker's processors give in
            # their own way; the fused one takes the processor's own, which is exact.
            **({"fused": True} if is_pinned() and not torch.cuda.is_available() else {"foreach": True}),
        )
    from transformers.optimization import Adafactor

    class Unfactored(Adafactor):
        @staticmethod
        def _get_options(param_group: dict[str, Any], param_shape: tuple[int, ...]) -> tuple[bool, bool]:  # noqa: ARG004
            return False, param_group["beta1"] is not None

    return (Adafactor if settings.factored else Unfactored)(
        parameters,
        lr=settings.learning_rate,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
        clip_threshold=1.0,
        weight_decay=settings.weight_decay,
    )


def schedule(settings: OptimizerSettings, total_steps: int) -> Callable[[int], float]:
    """Factor on the learning rate at a 0-based step: linear warm-up, then constant, or to 0 at ``total_steps``.

    The way down is linear or half a cosine: ``(1 + cos(pi * share done)) / 2``.

    Args:
        settings: kind of schedule and warm-up steps.
        total_steps: steps of the whole schedule.
    """

    def factor(step: int) -> float:
        if step < settings.warmup_steps:
            return (step + 1) / (settings.warmup_steps + 1)
        if settings.schedule == "constant":
            return 1.0
        left = max(0.0, (total_steps - step) / max(1, total_steps - settings.warmup_steps))
        return left if settings.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2

    return factor


def rounds_schedule(settings: AdversarialRounds, steps: Sequence[int], done: int) -> Callable[[int], float]:
    """Factor on the learning rate at a 0-based step of a block.

    One schedule over all rounds where the optimizer lives on, one for each round where it starts afresh.

    Args:
        settings: optimizer, and whether it is carried from round to round.
        steps: optimizer steps of every round.
        done: steps of the rounds before the block.
    """
    if settings.carry_optimizer:
        whole = schedule(settings.optimizer, sum(steps))
        return lambda step: whole(step + done)
    starts = [0, *itertools.accumulate(steps)]

    def factor(step: int) -> float:
        index = min(bisect.bisect_right(starts, step + done) - 1, len(steps) - 1)
        return schedule(settings.optimizer, steps[index])(step + done - starts[index])

    return factor
