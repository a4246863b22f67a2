"""The compute at which an attack first reaches a success rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def compute_to_reach(target: float, asr: NDArray[np.float64], compute: NDArray[np.float64]) -> float:
    """First crossing of ``target``, linear between the recorded iterations; infinity if it is never reached.

    Args:
        target: Success rate in (0, 1).
        asr: Success rate at iterations 1 … n, in order; before the attack it is 0 by definition.
        compute: Cumulative compute at the same iterations.
    """
    p = np.concatenate([[0.0], asr])
    c = np.concatenate([[0.0], compute])
    above = np.flatnonzero(p >= target)
    if not above.size:
        return float("inf")
    i = int(above[0])
    return float(c[i - 1] + (target - p[i - 1]) / (p[i] - p[i - 1]) * (c[i] - c[i - 1]))
