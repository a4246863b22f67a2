"""Robustness to continuous attacks against robustness to GCG, over all models of a study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from hardscale.analysis.intervals import normal_quantile
from hardscale.errors import DataError
from hardscale.settings.study_attacks import attack_kinds

_str, _f64 = pa.string(), pa.float64()
#: Columns of tables/correlations.*: of the losses of models under an attack in embedding space and under GCG.
CORRELATIONS = pa.schema(
    [
        *((name, _str) for name in ("task", "attack", "other", "method")),
        *((name, _f64) for name in ("value", "ci_low", "ci_high", "p")),
        ("n_models", pa.int64()),
    ]
)
_MODEL = ["task", "family", "scale", "n_params", "seed", "defense", "defense_kind", "round"]


Array = NDArray[np.float64]
#: Two points always lie on a line: a correlation says something from three up.
FEWEST = 3
#: Ranks of fewer points can be ordered in few ways, and the interval of five covers in 99 % of draws.
FEWEST_FOR_INTERVAL = 6


def paired_losses(losses: pd.DataFrame) -> pd.DataFrame:
    """One row a model and attack in embedding space: its loss ``continuous`` and GCG's ``discrete``, by ``other``.

    Losses are means over behaviors after the last iteration of either attack. Of several GCG attacks (any that rank
    tokens by gradient) the first by name is taken.

    Args:
        losses: rows of tables/losses.
    """
    curve = [*_MODEL, "attack"]
    last = losses.sort_values("iteration", kind="stable").drop_duplicates(curve, keep="last")
    ranking, shifting = attack_kinds(lambda a: bool(a.ranks)), attack_kinds(lambda a: a.space == "embeddings")
    discrete = last[last["attack_kind"].isin(ranking)].sort_values("attack", kind="stable").drop_duplicates(_MODEL)
    discrete = discrete[[*_MODEL, "attack", "loss"]].rename(columns={"attack": "other", "loss": "discrete"})
    continuous = last[last["attack_kind"].isin(shifting)][[*curve, "attack_kind", "eps", "loss"]]
    joined = continuous.rename(columns={"loss": "continuous"}).merge(discrete, on=_MODEL)
    return joined.sort_values(curve, kind="stable", ignore_index=True)


def correlations(losses: pd.DataFrame) -> pd.DataFrame:
    """Rows of CORRELATIONS: Spearman's and Pearson's coefficients over models; intervals where they have one."""
    rows = []
    for (task, attack, other), part in paired_losses(losses).groupby(["task", "attack", "other"], sort=True):
        for method, correlate in _METHODS.items():
            found = correlate(part["continuous"], part["discrete"])
            numbers = {"value": found.value, "ci_low": found.low, "ci_high": found.high, "p": found.p}
            place = {"task": task, "attack": attack, "other": other, "method": method}
            rows.append({**place, **numbers, "n_models": found.n})
    return pd.DataFrame(rows, columns=CORRELATIONS.names)


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient with its interval.

    Attributes:
        value: the coefficient; None where it is not defined (fewer than three points, or a quantity is constant).
        low: lower 95 % bound; None with the value, below six points, and of Pearson's coefficient.
        high: upper bound.
        n: points.
        p: two-sided p-value of no correlation, by permutation.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None = None


def pearson(x: ArrayLike, y: ArrayLike, *, seed: int = 0, n_resamples: int = 10_000) -> Correlation:
    """Pearson's ``r = cov(x, y) / (sd x sd y)``; without an interval."""
    return _correlation(*_points(x, y), ranks=False, seed=seed, n_resamples=n_resamples)


def spearman(x: ArrayLike, y: ArrayLike, *, seed: int = 0, n_resamples: int = 10_000) -> Correlation:
    """Spearman's ``rho``: Pearson's coefficient of the ranks, ties sharing their mean rank."""
    return _correlation(*_points(x, y), ranks=True, seed=seed, n_resamples=n_resamples)


_METHODS = {"spearman": spearman, "pearson": pearson}


def _points(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Pairs of which both are finite.

    Raises:
        DataError: the lengths differ.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"correlation: found shapes {a.shape} and {b.shape}; give two lists of one length")
    usable = np.isfinite(a) & np.isfinite(b)
    return a[usable], b[usable]


def _correlation(x: Array, y: Array, *, ranks: bool, seed: int, n_resamples: int) -> Correlation:
    n = len(x)
    if n < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(None, None, None, n)
    value = float(_rows(x[None], y[None], ranks)[0])
    low, high = _rank_interval(value, n) if ranks and n >= FEWEST_FOR_INTERVAL else (None, None)
    shuffles = np.random.default_rng(seed).permuted(np.tile(y, (n_resamples, 1)), axis=1)
    shuffled = _rows(np.broadcast_to(x, (n_resamples, n)), shuffles, ranks)
    p = (1 + int(np.sum(np.abs(shuffled) >= abs(value) - 1e-12))) / (1 + n_resamples)
    return Correlation(value, low, high, n, p)


def _rank_interval(rho: float, n: int) -> tuple[float, float]:
    """Of ranks without ties the coefficient next to 1 is ``1 - 12 / (n^3 - n)``; 1 itself counts as half way to it."""
    most = 1 - 6 / (n**3 - n)
    z = np.arctanh(np.clip(rho, -most, most))
    half = normal_quantile() * np.sqrt((1 + min(abs(rho), most) ** 2 / 2) / (n - 3))
    low, high = float(np.tanh(z - half)), float(np.tanh(z + half))
    return min(low, rho), max(high, rho)


def _rows(x: Array, y: Array, ranks: bool) -> Array:
    """Coefficient of every row of two ``(rows, n)`` arrays; NaN where a row is constant."""
    if ranks:
        x, y = rankdata(x, axis=1), rankdata(y, axis=1)
    a, b = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    # Sums of squares of a constant row are rounding errors, not always 0.
    constant = (np.ptp(x, axis=1) == 0) | (np.ptp(y, axis=1) == 0)
    products = (a * b).sum(axis=1)
    return np.where(constant, np.nan, np.clip(products / np.where(constant, 1.0, scale), -1.0, 1.0))
