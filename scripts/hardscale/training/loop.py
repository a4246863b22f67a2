"""The training loop that finetuning, adversarial rounds and pretraining share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import TrainingError
from hardscale.runtime import pulse
from hardscale.runtime.console import Progress
from hardscale.training import faults
from hardscale.training.batches import TokenRow
from hardscale.training.engine import Engine
from hardscale.training.session import Session, memory_mb


@dataclass
class TrainHistory:
    """Training history: the rows of METRICS and TIMING so far."""

    metrics: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def n_tokens(self) -> int:
        """Tokens trained on, padding not counted."""
        return sum(row["n_tokens"] for row in self.metrics)


@dataclass(frozen=True)
class TrainPhase:
    """Consecutive optimizer steps with one source of rows.

    Attributes:
        label: what the progress line says.
        round_index: for METRICS.
        n_steps: steps in all, also those done before a resume.
        rows: the rows of a 0-based step, the same on every rank.
        seed: of dropout.
        first_step: steps of the whole job before this phase; numbers checkpoints.
        on_losses: told the row losses of every step, in the order of its rows; the same on every rank.
        gradients: takes the gradients of a step in place of :meth:`Engine.accumulate`: told the step, its rows and the
            seed of dropout, gives this rank's row losses (of ``rows[rank::world]``, in order).
        copies: sequences trained on for each row.
    """

    label: str
    round_index: int
    n_steps: int
    rows: Callable[[int], Sequence[TokenRow]]
    seed: int
    first_step: int = 0
    on_losses: Callable[[Sequence[TokenRow], list[float]], None] | None = None
    gradients: Callable[[int, Sequence[TokenRow], int], Sequence[torch.Tensor]] | None = None
    copies: int = 1


def train(
    engine: Engine, session: Session, phase: TrainPhase, history: TrainHistory, progress: Callable[[], dict[str, Any]]
) -> None:
    """Take the steps that ``history`` does not hold yet, saving and stopping as the session says.

    Args:
        engine: what is trained.
        session: saves ``progress()``, which must hold the history.
        phase: the steps.
        history: filled with one row a step.
        progress: the job's state as JSON.

    Raises:
        TrainingError: a loss or gradient is not finite; nothing was updated by a bad loss.
    """
    group = session.group
    bar = Progress(phase.n_steps, phase.label) if group.leader else None
    if bar:
        bar.done = len(history.metrics)
    for step in range(len(history.metrics), phase.n_steps):
        began = time.perf_counter()
        number = phase.first_step + step + 1
        pulse.beat()
        faults.trip(session.job, "step", number, group.rank)
        rows = sorted(phase.rows(step), key=lambda row: len(row.ids))  # neighbors share a micro-batch: less padding
        learning_rate = engine.learning_rate
        seed = derive_seed(phase.seed, "dropout", step)
        mine = phase.gradients(step, rows, seed) if phase.gradients else engine.accumulate(rows, seed)
        losses, (stop, save) = _share(session, rows, mine, number)
        norm = engine.update()
        if not math.isfinite(norm):
            raise TrainingError(f"{phase.label}: gradient norm is {norm} at step {step + 1}; lower the learning rate")
        if phase.on_losses:
            phase.on_losses(rows, losses)
        n_tokens = phase.copies * sum(len(row.ids) for row in rows)
        seconds = time.perf_counter() - began
        loss = math.fsum(losses) / sum(engine.weight(row) for row in rows)
        history.metrics.append(
            {
                "round": phase.round_index,
                "step": step + 1,
                "loss": loss,
                "learning_rate": learning_rate,
                "grad_norm": norm,
                "n_tokens": n_tokens,
                "n_examples": len(rows),
            }
        )
        history.timing.append(
            {
                "step": step + 1,
                "seconds": seconds,
                "tokens_per_second": n_tokens / seconds,
                "memory_mb": memory_mb(group),
            }
        )
        if bar:
            bar.update(loss=loss)
        if stop or save:
            session.save(engine, number, progress())
        if stop:
            session.leave(f"at step {step + 1} of {phase.n_steps}")
    if bar:
        bar.close()


def _share(
    session: Session, rows: Sequence[TokenRow], losses_here: Sequence[torch.Tensor], number: int
) -> tuple[list[float], list[bool]]:
    """The losses of all rows of a step and whether to stop and to save, agreed by all ranks."""
    group = session.group
    mine = torch.cat(list(losses_here)).double().cpu()
    if faults.wanted("nan", session.job, "step", number, group.rank):
        mine[0] = math.nan
    told = torch.zeros(len(rows) + 2, dtype=torch.float64)
    told[group.rank : len(rows) : group.world] = mine
    told[-2:] = torch.tensor(session.votes())
    everyone = group.sum(told).tolist()
    losses, votes = everyone[:-2], everyone[-2:]
    bad = [row.key for row, loss in zip(rows, losses, strict=True) if not math.isfinite(loss)]
    if bad:
        shown = ", ".join(map(str, bad[:8])) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        raise TrainingError(
            f"{session.job}: loss is not finite at step {number} (examples {shown}); lower the learning rate, "
            "or look at these examples"
        )
    return losses, [vote > 0 for vote in votes]
