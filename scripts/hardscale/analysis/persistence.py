"""How far an attack's iterations succeed on the same examples.

Ten iterations on one example are not ten examples. The model here: an example has one threshold ``U`` for all
iterations, uniform on [0, 1], and at each iteration, with probability ``sqrt(persistence)``, it is ``U`` that the
success rate ``p`` of that iteration must exceed, else a fresh uniform number. Then

    ``cov(success_i, success_j) = persistence (min(p_i, p_j) - p_i p_j)``,

from independence (0) to Fréchet's bound (1: what is broken first is broken at every higher rate). How many examples are
broken at least once tells which: with persistence 1 no more than at the best iteration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Array = NDArray[np.float64]


def share_broken_once(rates: Array, persistence: float) -> float:
    """Share of examples broken at one iteration at least.

    Args:
        rates: ``(m,)`` success rates of the iterations.
        persistence: between 0 and 1.
    """
    p = np.sort(np.asarray(rates, dtype=float))
    kept = np.sqrt(persistence)
    # For U in [p_(j-1), p_(j)) the threshold is passed by the iterations from the j-th smallest rate on.
    by_chance = 1 - (1 - kept) * p
    by_threshold = by_chance - kept
    below = np.append(1.0, np.cumprod(by_chance))
    above = np.append(np.cumprod(by_threshold[::-1])[::-1], 1.0)
    width = np.diff(np.concatenate([[0.0], p, [1.0]]))
    return float(1 - np.sum(width * below * above))


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
    return float(brentq(excess, 0.0, 1.0, xtol=1e-6))
