"""Mean difference of two measurements of the same examples, with an interval over the choice of examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from hardscale.analysis.intervals import Estimate, mean_interval
from hardscale.errors import DataError


def paired_gain(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """``mean(first - second)`` with the interval of a mean; see :func:`hardscale.analysis.intervals.mean_interval`.

    Args:
        first: ``(n,)`` numbers, one an example (say the target's loss of a defended model).
        second: ``(n,)`` numbers, the same examples in the same order (of the model it is compared with).
        level: confidence level.

    Returns:
        Mean difference, lower and upper bound; both bounds are NaN where too few examples give none.

    Raises:
        DataError: lengths differ, there are no examples, or a number is not finite.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise DataError(f"paired gain: found shapes {a.shape} and {b.shape}; give the same examples, at least one")
    difference = a - b
    if not np.isfinite(difference).all():
        raise DataError("paired gain: a loss is not finite; leave that example out of both")
    return mean_interval(difference, level)


def common(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """Finite measurements of the examples that both have, in the order of their ids."""
    ids = sorted(i for i in first.keys() & second.keys() if np.isfinite(first[i]) and np.isfinite(second[i]))
    return [first[i] for i in ids], [second[i] for i in ids]
