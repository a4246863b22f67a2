"""What an attack on one example has cost so far: by the papers' convention, and exactly.

Convention: a forward reads every token of the whole prompt, padding and stored prefixes aside (as if nothing were ever
stored); a gradient pass is one forward and one backward. Exact: the products that are done, so a stored prefix is
computed once and a backward stops at the embeddings (``hardscale.models.flops``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hardscale.models.flops import (
    ModelShape,
    exact_forward_flops,
    exact_input_gradient_flops,
    exact_token_gradient_flops,
)


@dataclass
class Ledger:
    """Cumulative cost of one example's attack; :meth:`close_iteration` appends the totals to the lists.

    Args:
        shape: the victim.
        n_head_products: head outputs of one prompt (see ``exact_forward_flops``).
        n_stored: leading tokens whose keys and values are stored; they are paid for here, once.
    """

    shape: ModelShape
    n_head_products: int
    n_stored: int = 0
    forward_tokens: list[int] = field(default_factory=list)
    backward_tokens: list[int] = field(default_factory=list)
    forward_passes: list[int] = field(default_factory=list)
    backward_passes: list[int] = field(default_factory=list)
    flops_exact: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tokens = [0, 0]
        self._elsewhere = 0.0
        self._passes = [0, 0]
        self._exact = exact_forward_flops(self.shape, self.n_stored) if self.n_stored else 0.0

    def forward(self, n_prompts: int, n_tokens: int, n_reused: int | None = None) -> None:
        """``n_prompts`` prompts of ``n_tokens`` tokens each, of which ``n_reused`` are read (None: all stored ones)."""
        reused = self.n_stored if n_reused is None else n_reused
        self._tokens[0] += n_prompts * n_tokens
        self._passes[0] += n_prompts
        if n_prompts:
            each = exact_forward_flops(self.shape, n_tokens - reused, reused, self.n_head_products)
            self._exact += n_prompts * each

    def gradient(self, n_tokens: int, n_attack_tokens: int) -> None:
        """One forward and backward of a prompt, and the scores of every token at every attack position."""
        self.forward(1, n_tokens)
        self._tokens[1] += n_tokens
        self._passes[1] += 1
        new = n_tokens - self.n_stored
        self._exact += exact_input_gradient_flops(self.shape, new, self.n_stored, self.n_head_products)
        self._exact += exact_token_gradient_flops(self.shape, n_attack_tokens)

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
        self._exact += exact_forward_flops(self.shape, n_tokens, 0, n_reply_tokens * self.shape.vocab)

    def close_iteration(self) -> None:
        """Append the totals so far."""
        self.forward_tokens.append(self._tokens[0] + round(self._elsewhere))
        self.backward_tokens.append(self._tokens[1])
        self.forward_passes.append(self._passes[0])
        self.backward_passes.append(self._passes[1])
        self.flops_exact.append(self._exact)
