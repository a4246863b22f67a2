"""Shares and perplexities with 95 % intervals, as rows of UTILITY."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint

_LEVEL = 0.95


def share_row(metric: str, found: Sequence[bool], detail: str) -> dict[str, Any]:
    """A share with Wilson's score interval; without cases there is neither."""
    n = len(found)
    if not n:
        return {"metric": metric, "value": None, "n": 0, "ci_low": None, "ci_high": None, "detail": detail}
    low, high = proportion_confint(sum(found), n, alpha=1 - _LEVEL, method="wilson")
    return {
        "metric": metric,
        "value": sum(found) / n,
        "n": n,
        "ci_low": float(low),
        "ci_high": float(high),
        "detail": detail,
    }


def perplexity_row(metric: str, losses: Sequence[float], n_tokens: Sequence[int], detail: str) -> dict[str, Any]:
    """Perplexity: exp of the mean cross-entropy over all tokens.

    Tokens of one conversation go together, so the interval is that of a ratio of sums over conversations: with
    S_i = loss_i * T_i and m = sum S / sum T, se = sqrt(n / (n - 1) * sum (S_i - m T_i)^2) / sum T, and
    exp(m +- t se). None with one conversation.

    Args:
        metric: its name.
        losses: mean cross-entropy of each conversation's labels.
        n_tokens: labels of each.
        detail: what it was measured on.
    """
    n, total = len(losses), sum(n_tokens)
    if not total:
        return {"metric": metric, "value": None, "n": 0, "ci_low": None, "ci_high": None, "detail": detail}
    mean = sum(loss * count for loss, count in zip(losses, n_tokens, strict=True)) / total
    low = high = None
    if n > 1:
        spread = sum(((loss - mean) * count) ** 2 for loss, count in zip(losses, n_tokens, strict=True))
        half = float(student.ppf((1 + _LEVEL) / 2, n - 1)) * math.sqrt(n / (n - 1) * spread) / total
        low, high = math.exp(mean - half), math.exp(mean + half)
    return {"metric": metric, "value": math.exp(mean), "n": n, "ci_low": low, "ci_high": high, "detail": detail}
