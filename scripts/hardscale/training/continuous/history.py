"""The history of a training: what each step did, and the loop that takes the steps that are left."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hardscale.models.flop_counter import PassCounts
from hardscale.runtime.console import Progress, say
from hardscale.settings.perturbation import InnerAttack
from hardscale.training.engine import Engine
from hardscale.training.session import Session

#: Columns of TERMS whose mean over steps is a fact of the model.
_MEANS = ("attack_loss_first", "attack_loss_last", "projected_share", "mean_ratio")


@dataclass
class History:
    """Training history: the rows of METRICS, TIMING and TERMS so far."""

    metrics: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)
    terms: list[dict[str, Any]] = field(default_factory=list)

    @property
    def n_tokens(self) -> int:
        """Tokens trained on, padding and the attack's passes not counted."""
        return sum(row["n_tokens"] for row in self.metrics)

    @property
    def work(self) -> PassCounts:
        """Compute of all steps."""
        return PassCounts(*(math.fsum(row[name] for row in self.terms) for name in PassCounts.__dataclass_fields__))

    def attack_facts(self, attack: InnerAttack | None) -> dict[str, Any]:
        """How the attack went, as means over all steps that had one; None without.

        ``eps_unused``: no step ever left the ball, so that any larger ``eps`` would have given the same training.
        """
        facts: dict[str, Any] = {}
        for name in _MEANS:
            values = [row[name] for row in self.terms if row[name] is not None]
            facts[name] = math.fsum(values) / len(values) if values else None
        ratios = [row["max_ratio"] for row in self.terms if row["max_ratio"] is not None]
        facts["max_ratio"] = max(ratios, default=None)
        unused = attack is not None and attack.eps_projects_only and facts["projected_share"] == 0
        return {**facts, "eps_unused": unused if attack is not None else None}


def take_steps(
    engine: Engine,
    session: Session,
    history: History,
    n_steps: int,
    take: Callable[[int], tuple[bool, bool]],
    progress: Callable[[], dict[str, Any]],
) -> None:
    """Take the steps that ``history`` does not hold yet, saving and stopping as the ranks agree.

    Args:
        engine: what is trained.
        session: saves ``progress()``, which must hold the history.
        history: gets one row a step from ``take``.
        n_steps: steps in all.
        take: takes a 0-based step; whether to stop and to save after it, the same on every rank.
        progress: the job's state as JSON.
    """
    leader = session.group.leader
    done = len(history.metrics)
    if done and leader:
        say(f"resuming after step {done} of {n_steps}")
    bar = Progress(n_steps, session.job) if leader else None
    if bar:
        bar.done = done
    for step in range(done, n_steps):
        stop, save = take(step)
        if bar:
            bar.update(loss=history.metrics[-1]["loss"])
        if stop or save:
            session.save(engine, step + 1, progress())
        if stop:
            session.leave(f"at step {step + 1} of {n_steps}")
    if bar:
        bar.close()
