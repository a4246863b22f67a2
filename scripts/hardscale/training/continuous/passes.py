"""Compute of continuous training: forward and backward passes of sequences, and floating point operations.

A pass is one sequence through the model. The formulas are those of the paper's cost table (section on efficiency):
an adversarial row costs a forward and a backward pass for each step of its attack, and one of each for each of its two
answers; a utility row one of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hardscale.models.flops import (
    ModelShape,
    backward_flops,
    exact_forward_flops,
    exact_input_gradient_flops,
    forward_flops,
)


def attack_passes(attack_steps: int) -> int:
    """Forward and backward passes of the attack on one adversarial row (20 for ten steps)."""
    return 2 * attack_steps


def continuous_passes(n_steps: int, n_adversarial: int, n_utility: int, attack_steps: int, n_answers: int = 2) -> int:
    """Forward and backward passes of a whole continuous training.

    Args:
        n_steps: optimizer steps.
        n_adversarial: adversarial rows of a step.
        n_utility: utility rows of a step.
        attack_steps: 0 without an attack.
        n_answers: answers of an adversarial row that are trained on: towards one, away from the other.
    """
    return n_steps * (n_adversarial * (attack_passes(attack_steps) + 2 * n_answers) + 2 * n_utility)


def r2d2_passes(n_steps: int, n_cases: int, batch_size: int, gcg_steps: int, n_candidates: int) -> int:
    """Forward and backward passes of training on discrete suffixes.

    Args:
        n_steps: optimizer steps.
        n_cases: suffixes improved in a step.
        batch_size: rows trained on in a step, utility rows and one safe answer a case; the harmful answer of each
            case comes besides.
        gcg_steps: steps of the discrete attack on each case; each evaluates ``n_candidates`` and takes one gradient.
        n_candidates: replacements tried in one of them.
    """
    attack = gcg_steps * (n_candidates + 2)
    return n_steps * (n_cases * attack + 2 * (batch_size + n_cases))


@dataclass(frozen=True)
class Work:
    """Compute that was done; adds up.

    Attributes:
        forward_passes: sequences run forward.
        backward_passes: sequences run backward.
        forward_tokens: their tokens, padding not counted.
        backward_tokens: of the sequences run backward.
        flops_exact: operations as computed: input gradients alone cost less than weight gradients, the head is
            computed at answers only, and a prompt that two answers share is run once.
    """

    forward_passes: float = 0
    backward_passes: float = 0
    forward_tokens: float = 0
    backward_tokens: float = 0
    flops_exact: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> list[float]:
        """Its numbers, in order."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def flops(self, n_params: int) -> float:
        """By the papers' convention: 2 N D forward, 4 N D backward, whatever the gradient is for."""
        return forward_flops(n_params, int(self.forward_tokens)) + backward_flops(n_params, int(self.backward_tokens))


class Length(NamedTuple):
    """Size of a sequence.

    Attributes:
        tokens: all of it.
        labels: tokens at which the head is computed.
        shared: tokens at its beginning that another sequence of the same pass already runs.
    """

    tokens: int
    labels: int
    shared: int = 0


class Meter:
    """Prices sequences of one model.

    Args:
        shape: the model, without adapters.
        n_adapter_params: weights of the adapters, run besides it; 0 without.
        trains_all: whether all weights are trained, else the adapters alone.
        reads_last: whether a sequence's last token is read; a language model only predicts it.
    """

    def __init__(self, shape: ModelShape, n_adapter_params: int, trains_all: bool, reads_last: bool = False) -> None:
        self._unread = 0 if reads_last else 1
        self._shape = replace(shape, n_body_params=shape.n_body_params + n_adapter_params)
        self._n_trained = shape.n_body_params if trains_all else n_adapter_params
        self._head_trained = trains_all

    def attack(self, lengths: Sequence[Length], n_forward: int, n_backward: int) -> Work:
        """Passes of an attack on sequences; gradients of the inputs alone."""
        work = Work()
        for n_tokens, n_labels, n_shared in lengths:
            head, n_read = n_labels * self._shape.vocab, n_tokens - self._unread - n_shared
            work += Work(
                n_forward,
                n_backward,
                n_forward * n_tokens,
                n_backward * n_tokens,
                n_forward * exact_forward_flops(self._shape, n_read, n_shared, head)
                + n_backward * exact_input_gradient_flops(self._shape, n_read, n_shared, head),
            )
        return work

    def training(self, lengths: Sequence[Length]) -> Work:
        """One forward and one backward pass with the gradients of the trained weights."""
        work = self.attack(lengths, 1, 1)
        products = sum(
            self._n_trained * (n_tokens - self._unread - n_shared)
            + self._head_trained * self._shape.width * self._shape.vocab * n_labels
            for n_tokens, n_labels, n_shared in lengths
        )
        return replace(work, flops_exact=work.flops_exact + 2.0 * products)
