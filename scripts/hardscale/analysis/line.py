"""What a fitted line is, whichever method fitted it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class LineFit:
    """A straight line with the confidence interval of its slope.

    Attributes:
        slope: null when there are fewer than two usable points or all have the same x.
        intercept: null with the slope.
        ci_low: lower 95 % bound of the slope, null when the data leave no degree of freedom for one.
        ci_high: upper bound.
        n_points: usable points.
        n_seeds: distinct seeds among them.
        se: standard error of the slope from drawing examples, for fits of fits.
        estimand: what the interval is about (:mod:`hardscale.analysis.estimands`), null with the bounds.
    """

    slope: float | None
    intercept: float | None
    ci_low: float | None
    ci_high: float | None
    n_points: int
    n_seeds: int
    se: float | None = None
    estimand: str | None = None


def no_line(rows: pd.DataFrame) -> LineFit:
    """The fit of points that no line goes through."""
    return LineFit(None, None, None, None, len(rows), int(rows["seed"].nunique()))


def finite(value: float) -> float | None:
    """The value, or null when it is not a finite number."""
    return float(value) if np.isfinite(value) else None


def spread_out(x: np.ndarray) -> bool:
    """Whether a slope over these x is defined: two values that differ by more than rounding."""
    return len(x) >= 2 and float(np.ptp(x)) > 1e-9 * max(1.0, float(np.abs(x).max()))
