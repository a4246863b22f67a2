"""A line over scales, each of which is one draw: random effects of scales, Student's t with scales - 2.

``y_k = b0 + b1 x_k + u_k + e_k`` with ``u_k ~ N(0, tau^2)`` what a scale has of its own and ``e_k ~ N(0, v_k)`` what is
known to come from examples. ``tau^2`` is Paule and Mandel's: where the weighted residual sum of squares equals its
degrees of freedom, never below 0. Variances are scaled by the residuals as by Knapp and Hartung (*Statistics in
Medicine* 22 (2003) 2693-2710), which with equal ``tau^2 + v_k`` is ordinary least squares, and exact. Residuals that
examples alone would make so small once in a hundred times mean that counts are stuck at 0 or at all; the interval is
then that of examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from scipy.stats import t as student

Array = NDArray[np.float64]
_STUCK = 0.01


@dataclass(frozen=True)
class MetaLine:
    """A line through estimates of known variance.

    Attributes:
        slope: of the line.
        intercept: at x = 0.
        tau2: variance between scales beyond the known ones.
        half: half of the 95 % interval of the slope.
    """

    slope: float
    intercept: float
    tau2: float
    half: float


def meta_line(x: Array, y: Array, v: Array, level: float = 0.95) -> MetaLine:
    """Fit the line over scales.

    Args:
        x: ``(k,)`` with at least two values that differ.
        y: ``(k,)`` estimates.
        v: ``(k,)`` their variances from drawing examples, above 0.
        level: of the interval. With two scales it is that of examples alone (normal quantile).
    """
    x, y, v = (np.asarray(a, dtype=float) for a in (x, y, v))
    degrees = len(x) - 2
    if degrees < 1:
        (intercept, slope), covariance, _ = _weighted(x, y, v)
        return MetaLine(slope, intercept, 0.0, float(norm.ppf(0.5 + level / 2) * np.sqrt(covariance[1, 1])))

    def excess(tau2: float) -> float:
        return _weighted(x, y, v + tau2)[2] - degrees

    tau2 = 0.0
    if excess(0.0) > 0:
        top = float(np.ptp(y) ** 2 + v.max())
        while excess(top) > 0:
            top *= 4
        tau2 = float(brentq(excess, 0.0, top, xtol=1e-12, rtol=1e-10))
    (intercept, slope), covariance, squares = _weighted(x, y, v + tau2)
    se = float(np.sqrt(covariance[1, 1]))
    half = student.ppf(0.5 + level / 2, degrees) * np.sqrt(squares / degrees) * se
    if chi2.cdf(squares, degrees) < _STUCK:
        half = max(half, norm.ppf(0.5 + level / 2) * se)
    return MetaLine(slope, intercept, tau2, float(half))


def _weighted(x: Array, y: Array, variance: Array) -> tuple[tuple[float, float], Array, float]:
    """Weighted least squares: coefficients, their covariance, weighted residual sum of squares."""
    design = np.column_stack([np.ones(len(x)), x - x.mean()])
    weight = 1 / variance
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    level, slope = covariance @ design.T @ (weight * y)
    residual = y - design @ np.array([level, slope])
    return (float(level - slope * x.mean()), float(slope)), covariance, float(np.sum(weight * residual**2))
