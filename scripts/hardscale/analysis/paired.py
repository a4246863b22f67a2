"""Mean difference of two measurements of the same examples, with an interval over the choice of examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from hardscale.analysis.intervals import Estimate
from hardscale.errors import DataError


def paired_gain(
    first: ArrayLike, second: ArrayLike, *, seed: int, n_resamples: int = 10_000, level: float = 0.95
) -> Estimate:
    """``mean(first - second)`` with a percentile bootstrap over the pairs.

    With one pair there is nothing to resample: both bounds are NaN.

    Args:
        first: ``(n,)`` numbers, one an example (say the target's loss of a defended model).
        second: ``(n,)`` numbers, the same examples in the same order (of the model it is compared with).
        seed: of the random numbers.
        n_resamples: bootstrap samples.
        level: confidence level.

    Raises:
        DataError: lengths differ, there are no examples, or a number is not finite.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise DataError(f"paired gain: found shapes {a.shape} and {b.shape}; give the same examples, at least one")
    difference = a - b
    if not np.isfinite(difference).all():
        raise DataError("paired gain: a loss is not finite; leave that example out of both")
    n = len(difference)
    if n == 1:
        return float(difference[0]), float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    low, high = np.quantile(difference[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)


def common(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """Finite measurements of the examples that both have, in the order of their ids."""
    ids = sorted(i for i in first.keys() & second.keys() if np.isfinite(first[i]) and np.isfinite(second[i]))
    return [first[i] for i in ids], [second[i] for i in ids]
