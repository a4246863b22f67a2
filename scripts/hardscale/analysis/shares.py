"""Success rates of the models of a cell: seeds that differ by more than examples blur are not one sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from hardscale.analysis.estimands import ENOUGH_SEEDS
from hardscale.analysis.intervals import Estimate
from hardscale.errors import DataError

#: Correlation of success on one example between two seeds of a cell: what is hard for one is harder for the other.
SHARED_HARDNESS = 0.1
#: The same where it widens what Student's quantile has widened already.
SHARED_IN_ODDS = 0.04


def share_of_these(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean over models of their success rates, with an interval from drawing examples alone.

    Examples are drawn within models, so that how models differ is no noise: the variance of the mean is
    ``f sum_s p_s (1 - p_s) / n_s / S^2`` (``p_s`` with half a success and half a failure added), not that of pooled
    counts.
    Models are mostly attacked on the same examples and some examples are hard for all: ``f = 1 + (S - 1) c`` with
    ``c`` = :data:`SHARED_HARDNESS`. The interval is Wilson's with the number of examples that gives this variance; for
    one model, Wilson's own.

    Args:
        k: ``(s,)`` successes of each model.
        n: ``(s,)`` examples of each model, all positive.
        level: confidence level.

    Raises:
        DataError: no model, or one without examples.
    """
    successes, trials = _counts(k, n)
    models = len(trials)
    mean = float(np.mean(successes / trials))
    smoothed = (successes + 0.5) / (trials + 1)
    factor = 1 + (models - 1) * SHARED_HARDNESS
    variance = factor * float(np.sum(smoothed * (1 - smoothed) / trials)) / models**2
    center = float(smoothed.mean())
    effective = center * (1 - center) / variance if models > 1 else float(trials[0])
    z = float(norm.ppf(0.5 + level / 2))
    middle = (mean + z**2 / 2 / effective) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * np.sqrt(mean * (1 - mean) / effective + z**2 / 4 / effective**2)
    return mean, max(0.0, float(middle - half)), min(1.0, float(middle + half))


def share_of_typical(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> Estimate | None:
    """Success rate of the median model of those that these seeds are drawn from: mean log odds, Student's t over seeds.

    Log odds have half a success and half a failure added. To their variance comes the part of the examples' that seeds
    share (:data:`SHARED_IN_ODDS`) and that their differences do not show.

    Returns:
        rate and bounds; None below :data:`~hardscale.analysis.estimands.ENOUGH_SEEDS` models, and where more than half
        of the models are within one success of 0 or of all: their log odds are not measured.
    """
    successes, trials = _counts(k, n)
    flat = (successes <= 1) | (successes >= trials - 1)
    if len(trials) < ENOUGH_SEEDS or flat.mean() > 0.5:
        return None
    odds = logit((successes + 0.5) / (trials + 1))
    p = expit(odds)
    shared = SHARED_IN_ODDS * np.mean(1 / np.sqrt(trials * p * (1 - p))) ** 2
    between = odds.var(ddof=1) / len(odds)
    t, z = student.ppf(0.5 + level / 2, len(odds) - 1), norm.ppf(0.5 + level / 2)
    half = np.sqrt(t**2 * between + z**2 * shared)
    value, low, high = (float(expit(odds.mean() + d)) for d in (0.0, -half, half))
    return value, low, high


def _counts(k: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    successes, trials = np.asarray(k, dtype=float), np.asarray(n, dtype=float)
    if successes.shape != trials.shape or successes.ndim != 1 or not len(trials) or not (trials > 0).all():
        raise DataError(f"rate over models: found {trials.tolist()} examples; every model needs at least one")
    return successes, trials
