"""Shares, means and perplexities with 95 % intervals, as rows of UTILITY."""

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

    Tokens of one conversation go together, so the interval is that of :func:`mean_row` over conversations, with
    S_i = loss_i * T_i: exp(m +- t se). None with one conversation.

    Args:
        metric: its name.
        losses: mean cross-entropy of each conversation's labels.
        n_tokens: labels of each.
        detail: what it was measured on.
    """
    sums = [loss * count for loss, count in zip(losses, n_tokens, strict=True)]
    row = mean_row(metric, sums, n_tokens, detail)
    return {**row, **{key: None if row[key] is None else math.exp(row[key]) for key in ("value", "ci_low", "ci_high")}}


def mean_row(metric: str, sums: Sequence[float], counts: Sequence[int], detail: str) -> dict[str, Any]:
    """The mean of values that come in groups, with the 95 % t interval of a ratio of sums over groups.

    With S_i the sum of group i and T_i its number of values: m = sum S / sum T and
    se = sqrt(n / (n - 1) * sum (S_i - m T_i)^2) / sum T. No interval with one group, no mean without any.

    Args:
        metric: its name.
        sums: of the values of each group.
        counts: values of each group.
        detail: what it was measured on.
    """
    n, total = len(counts), sum(counts)
    if not total:
        return {"metric": metric, "value": None, "n": 0, "ci_low": None, "ci_high": None, "detail": detail}
    mean = sum(sums) / total
    low = high = None
    if n > 1:
        squares = sum((one - mean * count) ** 2 for one, count in zip(sums, counts, strict=True))
        half = float(student.ppf((1 + _LEVEL) / 2, n - 1)) * math.sqrt(n / (n - 1) * squares) / total
        low, high = mean - half, mean + half
    return {"metric": metric, "value": mean, "n": n, "ci_low": low, "ci_high": high, "detail": detail}
