"""Vectors added to prompt embeddings so that a loss falls: the search itself, for training and for attacks at test.

"Efficient Adversarial Training in LLMs with Continuous Attacks" (arXiv 2405.15589), section 3: one vector a token, each
inside a ball of its own, found by a few projected gradient steps. Rows never read each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import AttackError
from hardscale.models.parameters import whole_weight
from hardscale.runtime import pulse
from hardscale.runtime.instruction_set import is_pinned
from hardscale.settings.perturbation import Perturbation

#: Rows of the vocabulary whose embeddings are measured at once.
_VOCABULARY_ROWS = 8_192
#: Rows by which it is seen what a module multiplies them by.
_FACTOR_ROWS = 256
#: Relative error of a product of two numbers in the coarsest type of weights (bfloat16).
_ROUNDING = 2.0**-6
#: float16 gradients of single coordinates fall below its smallest number; the loss is scaled up meanwhile.
_LOSS_SCALE = {torch.float16: 2.0**10}
#: Adam's usual constants.
_BETAS, _ADAM_EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Perturbed:
    """Vectors found for a batch of rows, and how the search went.

    Attributes:
        delta: shape ``(rows, tokens, hidden)``, float32; exactly zero at tokens that were not perturbed.
        losses: of every iterate from the first to the last, shape ``(steps + 1, rows)``, float32; without the last one
            where it was not asked for.
        n_tokens: perturbed tokens of each row, shape ``(rows,)``.
        projected: share of its tokens, over all steps, that a step put outside the ball, shape ``(rows,)``.
        largest: largest length of a vector over the radius, shape ``(rows,)``. Lengths are in the norm of the ball;
            without a ball they are over the mean embedding norm.
        mean: mean of these ratios over a row's tokens, shape ``(rows,)``.
    """

    delta: Tensor
    losses: Tensor
    n_tokens: Tensor
    projected: Tensor
    largest: Tensor
    mean: Tensor

    @property
    def projected_share(self) -> float:
        """``projected`` over all tokens of all rows."""
        return self._over_tokens(self.projected)

    @property
    def max_ratio(self) -> float:
        """Largest of ``largest``."""
        return float(self.largest.max())

    @property
    def mean_ratio(self) -> float:
        """``mean`` over all tokens of all rows."""
        return self._over_tokens(self.mean)

    def _over_tokens(self, values: Tensor) -> float:
        return float((values * self.n_tokens).sum() / self.n_tokens.sum().clamp(min=1))


def perturb(
    losses_of: Callable[[Tensor], Tensor],
    embeds: Tensor,
    mask: Tensor,
    settings: Perturbation,
    steps: int,
    mean_norm: float,
    seed: int | Sequence[int],
    on_step: Callable[[int, Tensor], None] | None = None,
    *,
    names: Sequence[str] | None = None,
    score_last: bool = True,
    unit: float = 1.0,
) -> Perturbed:
    """Search vectors that lower the loss of every row: ``steps`` gradient steps, each followed by a projection.

    ``delta <- project(delta - step_size * direction(gradient))`` at the perturbed tokens. Gradients are taken towards
    ``delta`` alone, which is float32 whatever the model's type; parameters should want none.

    Args:
        losses_of: one loss a row, shape ``(rows,)``, to be minimized, from perturbed embeddings. A row's loss depends
            on that row alone.
        embeds: what the model's embedding module returns, shape ``(rows, tokens, hidden)``.
        mask: which tokens are perturbed, bool, shape ``(rows, tokens)``.
        settings: ball, step and start; its ``positions`` are the caller's business.
        steps: gradient steps.
        mean_norm: of :func:`mean_embedding_norm`, for sizes relative to it.
        seed: of ``init: uniform_ball``; one a row where rows are to be the same in other company.
        on_step: told the number of each iterate, 0 to ``steps``, and the rows' losses there.
        names: what the rows are called in errors.
        score_last: compute the loss of the last iterate; ``keep: best`` always does.
        unit: of :func:`embedding_factor`. Absolute sizes are lengths in the space of the embedding table, so that they
            mean the same whether or not the module scales what it reads there.

    Raises:
        AttackError: a loss is not finite; names the row and the step.
    """
    embeds = embeds.detach()
    rows, where = embeds.shape[0], mask[..., None]
    ball = _Ball(settings, mean_norm, unit)
    step_size = _step_size(settings, mean_norm, ball.radius, unit)
    direction = _Direction(settings.step_rule)
    scale = _LOSS_SCALE.get(embeds.dtype, 1.0)
    delta = _start(settings, ball, mask, embeds.shape[2], seed)
    best = _Best(rows, delta) if settings.keep == "best" else None
    losses: list[Tensor] = []
    n_outside = torch.zeros(rows, device=embeds.device)

    def note(loss: Tensor) -> None:
        losses.append(loss.detach().float())
        if best is not None:
            best.look(losses[-1], delta)
        if on_step is not None:
            on_step(len(losses) - 1, losses[-1])

    for _ in range(steps):
        pulse.beat()
        leaf = delta.detach().requires_grad_(True)
        with torch.enable_grad():
            loss = losses_of(embeds + leaf.to(embeds.dtype))
            # Rows do not read each other, so the gradient of the sum holds each row's own.
            [gradient] = torch.autograd.grad(loss.float().sum() * scale, leaf)
        note(loss)
        moved = delta - step_size * direction(gradient / scale)
        delta, outside = ball.project(torch.where(where, moved, 0.0))
        n_outside += (outside & mask).sum(dim=1)
    if score_last or best is not None:
        with torch.no_grad():
            note(losses_of(embeds + delta.to(embeds.dtype)))
    found = torch.stack(losses)
    _check_finite(found, names)
    delta = delta if best is None else best.delta
    n_tokens = mask.sum(dim=1)
    ratios = torch.where(mask, ball.length(delta) / (mean_norm if ball.radius is None else ball.radius), 0.0)
    return Perturbed(
        delta,
        found,
        n_tokens,
        n_outside / (n_tokens * steps).clamp(min=1),
        ratios.amax(dim=1),
        ratios.sum(dim=1) / n_tokens.clamp(min=1),
    )


@torch.no_grad()
def mean_embedding_norm(embedding: nn.Module) -> float:
    """Mean L2 norm, over the whole vocabulary, of what an embedding module returns for a token.

    The module's output, not its weights: some families scale it there. Under ZeRO-3 every rank has to come here.
    """
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    total = 0.0
    with whole_weight(weight) as whole:
        n = whole.shape[0]
        for start in range(0, n, _VOCABULARY_ROWS):
            ids = torch.arange(start, min(start + _VOCABULARY_ROWS, n), device=whole.device)
            # Not through the module's hooks, which would give the gathered weight back.
            total += float(embedding.forward(ids).double().norm(dim=-1).sum())
    return total / n


@torch.no_grad()
def embedding_factor(embedding: nn.Module) -> float:
    """What an embedding module multiplies the rows of its table by: the root of their width in Gemma, mostly 1.

    Families that scale embeddings later, inside the model's own forward, are 1 too: perturbations are added before that
    and scaled with the rest. So is a module that does more than scale, whose output is then the space that lengths are
    meant in. Under ZeRO-3 every rank has to come here.
    """
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    with whole_weight(weight) as whole:
        ids = torch.arange(min(_FACTOR_ROWS, whole.shape[0]), device=whole.device)
        rows, output = whole[ids], embedding.forward(ids)
    if output.shape != rows.shape or torch.equal(output, rows):
        return 1.0
    rows, output = rows.double(), output.double()
    factor = float((rows * output).sum() / rows.square().sum())
    only_scaled = torch.allclose(output, factor * rows, rtol=_ROUNDING, atol=_ROUNDING * float(output.abs().max()))
    return factor if only_scaled and factor > 0 else 1.0


class _Ball:
    """The set that each token's vector stays in: radius ``eps`` in L2 or in the largest coordinate; all if None."""

    def __init__(self, settings: Perturbation, mean_norm: float, unit: float) -> None:
        relative = mean_norm if settings.eps_mode == "relative_norm" else unit
        self.radius = None if settings.eps is None else settings.eps * relative
        self._norm = settings.norm

    def length(self, delta: Tensor) -> Tensor:
        """Of each vector in the norm of the ball, shape ``(rows, tokens)``."""
        return delta.norm(dim=-1) if self._norm == "l2" else delta.abs().amax(dim=-1)

    def project(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest vectors inside, and which ones were outside, shape ``(rows, tokens)``."""
        length = self.length(delta)
        if self.radius is None:
            return delta, torch.zeros_like(length, dtype=torch.bool)
        outside = length > self.radius
        if self._norm == "linf":
            return delta.clamp(-self.radius, self.radius), outside
        shrunk = delta * (self.radius / length)[..., None]
        return torch.where(outside[..., None], shrunk, delta), outside

    def draw(self, n: int, hidden: int, rng: torch.Generator) -> Tensor:
        """``n`` vectors uniform in the ball, shape ``(n, hidden)``, on the CPU."""
        assert self.radius is not None
        if self._norm == "linf":
            return (2 * torch.rand(n, hidden, generator=rng) - 1) * self.radius
        directions = torch.randn(n, hidden, generator=rng)
        lengths = self.radius * torch.rand(n, 1, generator=rng) ** (1 / hidden)
        return directions / directions.norm(dim=-1, keepdim=True) * lengths


class _Direction:
    """What a step goes against: the gradient's signs, the gradient at length 1 for each token, or Adam's ratio."""

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self._moments: tuple[Tensor, Tensor] | None = None
        self._n = 0

    def __call__(self, gradient: Tensor) -> Tensor:
        if self._rule == "sign":
            return gradient.sign()
        if self._rule == "l2":
            length = gradient.norm(dim=-1, keepdim=True)
            return torch.where(length > 0, gradient / length, 0.0)
        self._n += 1
        first, second = self._moments or (torch.zeros_like(gradient), torch.zeros_like(gradient))
        first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient.square()
        self._moments = first, second
        unbiased = square_root(second / (1 - _BETAS[1] ** self._n)) + _ADAM_EPS
        return first / (1 - _BETAS[0] ** self._n) / unbiased


def square_root(values: Tensor) -> Tensor:
    """Square roots: of float32 on a CPU exact to the last bit where no number may depend on the processor.

    MKL's are not: it starts from an estimate that each maker's processors give in their own way, and on AMD's heeds no
    switch. Rounded from float64 they are the same from whatever estimate.
    """
    if is_pinned() and values.device.type == "cpu" and values.dtype == torch.float32:
        return values.double().sqrt().float()
    return values.sqrt()


class _Best:
    """Each row's iterate with the lowest loss; the earlier one of equals."""

    def __init__(self, rows: int, delta: Tensor) -> None:
        self.losses = torch.full((rows,), torch.inf, device=delta.device)
        self.delta = delta

    def look(self, losses: Tensor, delta: Tensor) -> None:
        """Compare an iterate."""
        better = losses < self.losses
        self.losses = torch.where(better, losses, self.losses)
        self.delta = torch.where(better[:, None, None], delta, self.delta)


def _step_size(settings: Perturbation, mean_norm: float, radius: float | None, unit: float) -> float:
    if settings.step_size_mode == "relative_eps":
        assert radius is not None
        return settings.step_size * radius
    return settings.step_size * (mean_norm if settings.step_size_mode == "relative_norm" else unit)


def _start(settings: Perturbation, ball: _Ball, mask: Tensor, hidden: int, seed: int | Sequence[int]) -> Tensor:
    """The first iterate: zeros, or uniform draws at the perturbed tokens, which do not depend on padding."""
    delta = torch.zeros(*mask.shape, hidden, device=mask.device)
    if settings.init == "zero":
        return delta
    seeds = [derive_seed(seed, "row", i) for i in range(len(mask))] if isinstance(seed, int) else seed
    for i, own in enumerate(seeds):
        drawn = ball.draw(int(mask[i].sum()), hidden, torch.Generator().manual_seed(own))
        delta[i, mask[i]] = drawn.to(mask.device)
    return ball.project(delta)[0]  # a length may be rounded to just outside


def _check_finite(losses: Tensor, names: Sequence[str] | None) -> None:
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        step, row = bad[0].tolist()
        name = names[row] if names is not None else f"in row {row}"
        raise AttackError(
            f"example {name}: the loss is not finite at step {step} of the attack on embeddings; lower step_size or "
            "eps, or check the model's weights and dtype"
        )
