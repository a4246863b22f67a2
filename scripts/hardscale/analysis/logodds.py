"""Log10 odds: the scale on which attack success is compared (section on metrics)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

LN10 = float(np.log(10.0))


def log10_odds(p: ArrayLike) -> NDArray[np.float64]:
    """``log10(p / (1 - p))``; 0 gives -inf and 1 gives +inf."""
    return np.asarray(logit(np.asarray(p, dtype=float)), dtype=float) / LN10


def from_log10_odds(y: ArrayLike) -> NDArray[np.float64]:
    """The probability whose log10 odds are ``y``."""
    return np.asarray(expit(np.asarray(y, dtype=float) * LN10), dtype=float)


def laplace(p: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """``(p n + 1) / (n + 2)``: the paper's smoothing of plotted rates, finite in log odds at 0 and 1.

    The paper takes the number of validation examples for ``n``, not the number attacked; it smooths plots only and
    never what goes into a regression.
    """
    count = np.asarray(n, dtype=float)
    return np.asarray((np.asarray(p, dtype=float) * count + 1.0) / (count + 2.0), dtype=float)


def log10_positive(values: ArrayLike) -> NDArray[np.float64]:
    """``log10`` of what is positive and finite; NaN for the rest, so that unknown or zero compute is left out."""
    array = np.asarray(values, dtype=float)
    usable = np.isfinite(array) & (array > 0)
    return np.log10(np.where(usable, array, np.nan))
