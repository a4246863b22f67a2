"""The losses of continuous adversarial training as pure functions of token log-probabilities.

Sections and equations are those of "Efficient Adversarial Training in LLMs with Continuous Attacks"
(arXiv 2405.15589). Every term is a loss: lower is better.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

#: Slope of a term that is good enough already.
LEAK = 0.001


# --- tokens ---------------------------------------------------------------------------------------------------------


def log_probabilities(logits: Tensor, wanted: Tensor) -> Tensor:
    """``log p`` of one token at each place, shape ``(n,)``, of logits ``(n, vocabulary)``."""
    return -functional.cross_entropy(logits, wanted, reduction="none")


def complement_log_probabilities(logits: Tensor, wanted: Tensor) -> Tensor:
    """``log(1 - p)`` of one token at each place, shape ``(n,)``, of logits ``(n, vocabulary)``.

    ``logsumexp`` of all other logits minus ``logsumexp`` of all: exact also where p is nearly 1.
    """
    others = logits.scatter(1, wanted[:, None], -math.inf)
    return others.logsumexp(dim=1) - logits.logsumexp(dim=1)


def sums_by_row(values: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """Sum of each row's values; ``values`` and ``rows`` have shape ``(n,)``, the result ``(n_rows,)``."""
    return torch.zeros(n_rows, dtype=values.dtype, device=values.device).index_add(0, rows, values)


# --- C-AdvUL (equation 3) -------------------------------------------------------------------------------------------


def cut_off(term: float, cutoff: float | None, form: Literal["continuous", "published"] = "continuous") -> float:
    """A term that flattens once it is below its cut-off: ``0.999 c + 0.001 L`` there, ``L`` above.

    The published code writes ``c + 0.001 L`` instead, which jumps at the cut-off; its gradient is the same.
    """
    if cutoff is None or term >= cutoff:
        return term
    return (cutoff if form == "published" else (1 - LEAK) * cutoff) + LEAK * term


def slope(term: float, cutoff: float | None) -> float:
    """Derivative of :func:`cut_off` by the term, in either form."""
    return 1.0 if cutoff is None or term >= cutoff else LEAK


def away_values(log_p: Tensor) -> Tensor:
    """Log-probability of each harmful token, which is to fall."""
    return log_p


def unlikelihood_values(log_p: Tensor, log_complement: Tensor, cutoff: float | None) -> Tensor:
    """``-log(1 - p)`` of each harmful token (R2D2's form), 0 where ``log p`` is below the cut-off; shapes ``(n,)``."""
    if cutoff is None:
        return -log_complement
    return torch.where(log_p < cutoff, torch.zeros_like(log_p), -log_complement)


# --- C-AdvIPO (equation 4) ------------------------------------------------------------------------------------------


def cut_rejected(log_p: Tensor, cutoff: float | None, form: Literal["clamp", "zero"]) -> Tensor:
    """Log-probabilities of rejected tokens; one below the cut-off counts as the cut-off (or 0) and has no gradient."""
    if cutoff is None:
        return log_p
    return log_p.clamp(min=cutoff) if form == "clamp" else torch.where(log_p < cutoff, torch.zeros_like(log_p), log_p)


def cut_chosen(log_p: Tensor, cutoff: float | None, form: Literal["clamp", "zero"]) -> Tensor:
    """Log-probabilities of chosen tokens; one above minus the cut-off counts as that (or 0) and has no gradient.

    A cut-off of 0 changes nothing.
    """
    if cutoff is None:
        return log_p
    if form == "clamp":
        return log_p.clamp(max=-cutoff)
    return torch.where(log_p > -cutoff, torch.zeros_like(log_p), log_p)


def ipo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """``(h - 1 / (2 beta))^2`` with ``h = chosen - rejected``, log-ratios to the reference as means over tokens."""
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def dpo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """``-log sigmoid(beta h)``, log-ratios to the reference as sums over tokens (arXiv 2305.18290)."""
    return -functional.logsigmoid(beta * (chosen - rejected))


def npo(rejected: Tensor, beta: float) -> Tensor:
    """``-(2 / beta) log sigmoid(-beta rejected)``, the log-ratio a sum over tokens (arXiv 2404.05868)."""
    return -2 / beta * functional.logsigmoid(-beta * rejected)
