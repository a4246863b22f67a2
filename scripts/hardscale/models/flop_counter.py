"""The one count of passes and floating point operations: of attacks, of discrete and of continuous training.

By the papers' convention a forward reads every token of the whole sequence, padding and stored prefixes aside (as if
nothing were ever stored), and a gradient is one forward and one backward, whatever it is for. Exact are the products
that are done: a stored or shared prefix is computed once, a backward for the inputs alone stops at the embeddings, and
the head is computed where it is asked for (:mod:`hardscale.models.flops`). No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from hardscale.models.flops import (
    ModelShape,
    backward_flops,
    exact_forward_flops,
    exact_input_gradient_flops,
    exact_token_gradient_flops,
    forward_flops,
)


class Counted(Protocol):
    """Running totals of an attack, one entry an iteration: a counter, or the result of an attack."""

    @property
    def forward_passes(self) -> Sequence[int]:
        """Sequences run forward."""

    @property
    def backward_passes(self) -> Sequence[int]:
        """Sequences run backward."""

    @property
    def forward_tokens(self) -> Sequence[int]:
        """Their tokens, padding not counted."""

    @property
    def backward_tokens(self) -> Sequence[int]:
        """Of the sequences run backward."""

    @property
    def flops_exact(self) -> Sequence[float]:
        """Operations as computed."""


@dataclass(frozen=True)
class PassCounts:
    """Compute that was done; adds up.

    Attributes:
        forward_passes: sequences run forward.
        backward_passes: sequences run backward.
        forward_tokens: their tokens, padding not counted.
        backward_tokens: of the sequences run backward.
        flops_exact: operations as computed.
    """

    forward_passes: float = 0
    backward_passes: float = 0
    forward_tokens: float = 0
    backward_tokens: float = 0
    flops_exact: float = 0

    @classmethod
    def last_of(cls, counted: Counted) -> PassCounts:
        """All that an attack did."""
        return cls(*(getattr(counted, name)[-1] for name in cls.__dataclass_fields__))

    def __add__(self, other: PassCounts) -> PassCounts:
        return PassCounts(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

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


class FlopCounter:
    """Counts the compute of one model.

    :meth:`attack` and :meth:`training` price passes over many sequences at once, for those who add up by themselves
    (a step, over its micro-batches and ranks). The other methods keep the running totals of the attack on one example:
    :meth:`close_iteration` appends them to the lists.

    Args:
        shape: the model, without adapters.
        n_head_products: head outputs of the one example's prompt (see
            :func:`~hardscale.models.flops.exact_forward_flops`).
        n_stored: its leading tokens whose keys and values are stored; they are paid for here, once.
        n_adapter_params: weights of the adapters, run besides the model; 0 without.
        trains_all: whether training changes all weights, else the adapters alone.
        reads_last: whether a sequence's last token is read; a language model in training only predicts it.
    """

    def __init__(
        self,
        shape: ModelShape,
        n_head_products: int = 0,
        n_stored: int = 0,
        *,
        n_adapter_params: int = 0,
        trains_all: bool = False,
        reads_last: bool = True,
    ) -> None:
        self._shape = replace(shape, n_body_params=shape.n_body_params + n_adapter_params)
        self._n_head_products, self._n_stored = n_head_products, n_stored
        self._unread = 0 if reads_last else 1
        self._n_trained = shape.n_body_params if trains_all else n_adapter_params
        self._head_trained = trains_all
        self.forward_tokens: list[int] = []
        self.backward_tokens: list[int] = []
        self.forward_passes: list[int] = []
        self.backward_passes: list[int] = []
        self.flops_exact: list[float] = []
        self._tokens, self._passes = [0, 0], [0, 0]
        self._elsewhere = 0.0
        self._exact = exact_forward_flops(self._shape, n_stored) if n_stored else 0.0

    def attack(self, lengths: Sequence[Length], n_forward: int, n_backward: int) -> PassCounts:
        """What passes over sequences cost; gradients of the inputs alone.

        Args:
            lengths: of the sequences.
            n_forward: forward passes over each of them.
            n_backward: backward passes.
        """
        counts = PassCounts()
        for n_tokens, n_labels, n_shared in lengths:
            head, n_read = n_labels * self._shape.vocab, n_tokens - self._unread - n_shared
            counts += PassCounts(
                n_forward,
                n_backward,
                n_forward * n_tokens,
                n_backward * n_tokens,
                n_forward * exact_forward_flops(self._shape, n_read, n_shared, head)
                + n_backward * exact_input_gradient_flops(self._shape, n_read, n_shared, head),
            )
        return counts

    def training(self, lengths: Sequence[Length]) -> PassCounts:
        """What one forward and one backward pass cost with the gradients of the trained weights."""
        counts = self.attack(lengths, 1, 1)
        products = sum(
            self._n_trained * (n_tokens - self._unread - n_shared)
            + self._head_trained * self._shape.width * self._shape.vocab * n_labels
            for n_tokens, n_labels, n_shared in lengths
        )
        return replace(counts, flops_exact=counts.flops_exact + 2.0 * products)

    def forward(self, n_prompts: int, n_tokens: int, n_reused: int | None = None) -> None:
        """``n_prompts`` prompts of ``n_tokens`` tokens each, of which ``n_reused`` are read (None: all stored ones)."""
        reused = self._n_stored if n_reused is None else n_reused
        self._tokens[0] += n_prompts * n_tokens
        self._passes[0] += n_prompts
        if n_prompts:
            each = exact_forward_flops(self._shape, n_tokens - reused, reused, self._n_head_products)
            self._exact += n_prompts * each

    def gradient(self, n_tokens: int, n_attack_tokens: int) -> None:
        """One forward and backward of a prompt, and the scores of every token at every attack position."""
        self.forward(1, n_tokens)
        self._tokens[1] += n_tokens
        self._passes[1] += 1
        new = n_tokens - self._n_stored
        self._exact += exact_input_gradient_flops(self._shape, new, self._n_stored, self._n_head_products)
        self._exact += exact_token_gradient_flops(self._shape, n_attack_tokens)

    def elsewhere(self, n_tokens: float, n_passes: int, flops: float) -> None:
        """Forwards that are not of this head or not of this model.

        Args:
            n_tokens: as many tokens of the victim as cost the same by the convention: tokens times the ratio of the
                two models' parameters.
            n_passes: prompts.
            flops: operations as computed.
        """
        self._elsewhere += n_tokens
        self._passes[0] += n_passes
        self._exact += flops

    def reply(self, n_prompt_tokens: int, n_reply_tokens: int) -> None:
        """A reply written after a prompt, one pass: every token is read once, and the head gives each reply token."""
        n_tokens = n_prompt_tokens + n_reply_tokens
        self._tokens[0] += n_tokens
        self._passes[0] += 1
        self._exact += exact_forward_flops(self._shape, n_tokens, 0, n_reply_tokens * self._shape.vocab)

    def close_iteration(self) -> None:
        """Append the totals so far."""
        self.forward_tokens.append(self._tokens[0] + round(self._elsewhere))
        self.backward_tokens.append(self._tokens[1])
        self.forward_passes.append(self._passes[0])
        self.backward_passes.append(self._passes[1])
        self.flops_exact.append(self._exact)
