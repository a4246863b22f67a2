"""How far an attack's iterations succeed on the same examples.

Ten iterations on one example are not ten examples. The model here: an example has a hardness ``z``, standard normal,
and an iteration with success rate ``p`` breaks it where ``sqrt(c) z + sqrt(1 - c) e < normal quantile of p``, with a
fresh ``e`` for each iteration. ``c``, the persistence, goes from independence (0) to what is broken first being broken
at every higher rate (1). Given its hardness, iterations succeed independently, with

    ``q(z) = Phi((quantile(p) - sqrt(c) z) / sqrt(1 - c))``,

so that all that is needed are means over ``z``. How many examples are broken at least once tells ``c``: with
persistence 1 no more than at the best iteration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]
#: Hardness at the middles of equally likely parts.
_HARDNESS = ndtri((np.arange(200) + 0.5) / 200)
_HIGHEST = 1 - 1e-6


def chances(rates: Array, persistence: float) -> Array:
    """Chance of success at each iteration of an example of each hardness.

    Args:
        rates: ``(m,)`` success rates of the iterations.
        persistence: between 0 and 1.

    Returns:
        ``(m, hardness)``, equally likely columns.
    """
    c = min(persistence, _HIGHEST)
    limits = ndtri(np.clip(rates, 1e-12, 1 - 1e-12))
    return np.asarray(ndtr((limits[:, None] - np.sqrt(c) * _HARDNESS) / np.sqrt(1 - c)))


def share_broken_once(rates: Array, persistence: float) -> float:
    """Share of examples broken at one iteration at least."""
    return float(1 - np.mean(np.prod(1 - chances(rates, persistence), axis=0)))


def hardness_variance(weights: Array, rates: Array, persistence: float) -> float:
    """Variance of the sum of weighted successes on one example that comes from how hard it is."""
    return float(np.var(weights @ chances(rates, persistence)))


def sum_variance(weights: Array, rates: Array, persistence: float) -> float:
    """Variance of the sum of weighted successes on one example."""
    q = chances(rates, persistence)
    alone = rates * (1 - rates) - np.var(q, axis=1)
    return float(np.var(weights @ q) + weights**2 @ np.maximum(alone, 0.0))


def persistence(curves: Sequence[tuple[Array, float, float]]) -> float | None:
    """The persistence at which as many examples are broken once as were.

    Args:
        curves: for each model the success rates of all its iterations from the first, the number of examples broken at
            least once, and the number attacked.

    Returns:
        between 0 and 1; None where there is nothing to learn it from.
    """
    curves = [curve for curve in curves if len(curve[0]) >= 2 and 0 < np.max(curve[0]) < 1]
    if not curves:
        return None
    broken = sum(once for _, once, _ in curves)

    def excess(at: float) -> float:
        return sum(n * share_broken_once(rates, at) for rates, _, n in curves) - broken

    if excess(0.0) <= 0:
        return 0.0
    if excess(1.0) >= 0:
        return 1.0
    return float(brentq(excess, 0.0, 1.0, xtol=1e-4))
