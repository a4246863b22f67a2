"""Rows of an attack's tables: one an example, one an iteration for the clock, and sums of what attacks note."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Sequence
from typing import Any

import torch

from hardscale.attacks.results import AttackResult
from hardscale.models.flops import backward_flops, forward_flops
from hardscale.runtime.console import Progress
from hardscale.runtime.memory import Budget


class Clock:
    """Wall seconds of each iteration of an attack, shown as they pass."""

    def __init__(self, n_iterations: int, n_examples: int, label: str) -> None:
        self.seconds: dict[int, float] = {}
        self._progress = Progress(n_iterations * n_examples, label, "example-iteration")

    def note(self, iteration: int, alive: int, spent: float) -> None:
        """An iteration is over; see :data:`hardscale.attacks.results.Callback`."""
        self.seconds[iteration] = self.seconds.get(iteration, 0.0) + spent
        self._progress.update(alive, iteration=iteration)

    def close(self, results: Sequence[AttackResult]) -> None:
        """The attack is over."""
        # What examples that fell early did not need.
        self._progress.update(self._progress.total - self._progress.done)
        held = sum(result.successes[-1] for result in results)
        self._progress.close(**({"asr": held / len(results)} if results else {}))


def attack_row(
    example_id: int,
    label: int,
    clean_prediction: int,
    result: AttackResult,
    success: bool,
    *,
    n_iterations: int,
    n_params: int,
    seed: int,
) -> dict[str, Any]:
    """One row of ATTACK. After an early stop the last entry of every list is repeated, and nothing is evaluated."""
    missing = n_iterations - len(result.losses)

    def full(values: list[Any]) -> list[Any]:
        return values + values[-1:] * missing

    n_forward, n_backward = result.forward_tokens[-1], result.backward_tokens[-1]
    return {
        "example_id": example_id,
        "label": label,
        "clean_prediction": clean_prediction,
        "adversarial_text": result.prompt_text,
        "adversarial_tokens": list(result.tokens),
        "success": success,
        "first_success": result.first_success,
        "losses": full(result.losses),
        "successes": full(result.successes),
        "n_evaluated": result.n_evaluated + [0] * missing,
        "forward_tokens": full(result.forward_tokens),
        "backward_tokens": full(result.backward_tokens),
        "flops_exact_by_iteration": full(result.flops_exact),
        "forward_passes": full(result.forward_passes),
        "backward_passes": full(result.backward_passes),
        "n_forward_tokens": n_forward,
        "n_backward_tokens": n_backward,
        "flops": forward_flops(n_params, n_forward) + backward_flops(n_params, n_backward),
        "seed": seed,
    }


def timing_rows(results: Sequence[AttackResult], seconds: dict[int, float], budget: Budget) -> list[dict[str, Any]]:
    """Rows of TIMING, one an iteration; tokens by the convention, so that they compare with the FLOPs."""
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    rows, before = [], 0
    for iteration, spent in sorted(seconds.items()):
        total = sum(result.forward_tokens[min(iteration, len(result.forward_tokens)) - 1] for result in results)
        rate = (total - before) / spent if spent > 0 else 0.0
        rows.append(
            {
                "step": iteration,
                "seconds": spent,
                "tokens_per_second": rate,
                "memory_mb": memory,
                "batch_halvings": budget.halvings,
            }
        )
        before = total
    return rows


def summed_notes(results: Sequence[AttackResult]) -> dict[str, float]:
    """What an attack noted of its examples, by name: counts (``n_...``) summed, other figures averaged.

    An average is over the examples that have the figure; one that is not finite is left out.
    """
    values: dict[str, list[float]] = {}
    for result in results:
        for name, value in result.notes.items():
            if math.isfinite(value):
                values.setdefault(name, []).append(float(value))
    return {
        name: sum(some) if name.startswith("n_") else sum(some) / len(some) for name, some in sorted(values.items())
    }
