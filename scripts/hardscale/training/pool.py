"""The pool of adversarial examples and how a round's training set is drawn from it (section 5). Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hardscale.artifacts.rounds_plan import ramp
from hardscale.artifacts.seeds import derive_seed
from hardscale.settings.defenses import AdversarialRounds


@dataclass
class PoolEntry:
    """An attacked training example, kept whether or not the attack succeeded.

    Attributes:
        example_id: of the clean example.
        round: in which it was attacked.
        text: the whole attacked prompt.
        label: the TRUE label.
        success: whether the attack succeeded then.
        last_loss: cross-entropy when it was last trained on; None if never.
    """

    example_id: int
    round: int
    text: str
    label: int
    success: bool
    last_loss: float | None = None


def loss_ranks(losses: Sequence[float | None], mode: Literal["true", "argsort"] = "true") -> np.ndarray:
    """Rank of each loss, 0 for the smallest; never trained counts as +inf, ties go by index.

    ``argsort`` returns the indices that would sort the losses, as the published code does; they are not ranks.
    """
    order = np.argsort([math.inf if loss is None else loss for loss in losses], kind="stable")
    return order if mode == "argsort" else np.argsort(order, kind="stable")


def log_weights(
    losses: Sequence[float | None], alpha: float, decay: float, mode: Literal["true", "argsort"]
) -> np.ndarray:
    """Unnormalized log sampling weights of pool entries, oldest first.

    ``log w_i = decay * (rho_i - max rho)`` with ``rho_i = (1 - alpha) * time_i + alpha * loss_rank_i``; ``time_i`` is
    the place of insertion, 0 for the oldest.
    """
    rho = (1 - alpha) * np.arange(len(losses)) + alpha * loss_ranks(losses, mode)
    return decay * (rho - rho.max()) if len(losses) else rho


def draw_without_replacement(log_weight: np.ndarray, n: int, rng: np.random.Generator) -> list[int]:
    """``n`` distinct indices, drawn one after another with probability proportional to the weights that remain.

    The Gumbel trick: the ``n`` largest of ``log w + Gumbel noise``, in falling order, have exactly that distribution,
    and no weight is too small for it.
    """
    keys = log_weight + rng.gumbel(size=len(log_weight))
    return np.argsort(-keys, kind="stable")[:n].tolist()


@dataclass(frozen=True)
class RoundSet:
    """One round's training set: indices into the pool and into the clean training split."""

    adversarial: list[int]
    clean: list[int]

    def __len__(self) -> int:
        return len(self.adversarial) + len(self.clean)


def set_sizes(n_pool: int, n_train: int, settings: AdversarialRounds) -> tuple[int, int]:
    """Adversarial and clean examples of a round's set: at most ``max_adversarial_fraction`` from the pool."""
    n = min(n_train + n_pool, settings.set_size)
    # The small term: 0.29 * 100 is 28.999... in floating point and means 29.
    n_adversarial = min(int(settings.max_adversarial_fraction * n + 1e-9), n_pool)
    return n_adversarial, min(n - n_adversarial, n_train)


def draw_set(pool: Sequence[PoolEntry], n_train: int, settings: AdversarialRounds, seed: int) -> RoundSet:
    """The set of a round, in a random order of its own for each part; clean examples are drawn uniformly."""
    n_adversarial, n_clean = set_sizes(len(pool), n_train, settings)
    weights = log_weights(
        [entry.last_loss for entry in pool], settings.loss_rank_weight, settings.sampling_decay, settings.loss_rank
    )
    rng = np.random.default_rng(derive_seed(seed, "pool"))
    adversarial = draw_without_replacement(weights, n_adversarial, rng)
    clean = np.random.default_rng(derive_seed(seed, "clean")).choice(n_train, n_clean, replace=False).tolist()
    return RoundSet(adversarial, clean)


def draw_new(n_train: int, n_new: int, seed: int) -> list[int]:
    """Indices of the clean training examples that a round attacks, without replacement."""
    return np.random.default_rng(derive_seed(seed, "new")).choice(n_train, min(n_new, n_train), replace=False).tolist()


def pool_rows(pool: Sequence[PoolEntry]) -> list[dict[str, Any]]:
    """Rows of POOL."""
    return [dict(vars(entry)) for entry in pool]


def attack_iterations(settings: AdversarialRounds, number: int) -> int:
    """Iterations of the attack in round ``number``, from 1 (section 5)."""
    span = settings.rounds + (settings.attack.ramp_end == "one_later")
    return ramp(number - 1, span, settings.attack.n_iterations, settings.attack.n_iterations_end)
