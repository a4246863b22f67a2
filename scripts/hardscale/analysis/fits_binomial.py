"""Lines by binomial likelihood, saturated points kept, with intervals that say what they are about.

*Within a scale* (attack scaling, defense scaling): logit regression of successes out of the number attacked with a
random intercept for each model, i.e. each seed and round (:mod:`hardscale.analysis.mixed`). 0/n and n/n are data like
any other; Firth's penalty keeps slopes finite where nothing else is there. Offense-defense has a likelihood of its own
(:mod:`hardscale.analysis.crossing`). Intervals are Wald's, 95 %:

* below five seeds *these models*: the variance from drawing examples (normal quantile), which iterations, rounds and
  seeds share (:mod:`hardscale.analysis.variances`); it is no smaller for counting an example once an iteration;
* from five seeds *models like them*: a jackknife over seeds (Student's t, seeds - 1), and the part of the examples'
  variance that all seeds share and their differences cannot show.

*Over scales*: from three scales *models like them*, by Student's t with scales - 2, of two scales *these models*, from
examples alone. Size is one such regression over all scales, whose variance is that of the scatter of scales; slope of
slopes is a line through one slope a scale with a variance between scales (:mod:`hardscale.analysis.meta`).

Slopes are log10 odds per factor 10. How often each interval covers is measured: ``docs/statistics.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from hardscale.analysis.crossing import SLOPE, fit_crossing
from hardscale.analysis.estimands import ALIKE, ENOUGH_SCALES, ENOUGH_SEEDS, THESE
from hardscale.analysis.intervals import normal_quantile
from hardscale.analysis.line import LineFit, finite, no_line, spread_out
from hardscale.analysis.logodds import LN10, log10_positive
from hardscale.analysis.meta import meta_line
from hardscale.analysis.mixed import MixedModel, fit_mixed
from hardscale.analysis.points import log_attack_share, log_defense_share
from hardscale.analysis.variances import (
    WITHIN_MODEL,
    cluster_variance,
    examples_variance,
    persistence,
    persistence_by_scatter,
    scatter_half_width,
    shared_variance,
)

METHOD = "binomial"
#: Share of counts within one success of 0 or of all above which their scatter says little.
_MOSTLY = 0.5
_SLOPE = np.array([0.0, 1.0])


def attack_scaling(rows: pd.DataFrame) -> LineFit:
    """Log odds over all seeds and iterations >= 1 against log10 of attack over pretraining FLOPs."""
    rows = rows[rows["iteration"] >= 1]
    return _within_scale(log_attack_share(rows), rows)


def defense_scaling(rows: pd.DataFrame) -> LineFit:
    """Log odds over rounds >= 1 and seeds against log10 of defense over pretraining FLOPs."""
    rows = rows[rows["round"] >= 1]
    return _within_scale(log_defense_share(rows), rows)


def size(rows: pd.DataFrame) -> LineFit:
    """Log odds at the headline iteration against log10 parameters, one point per scale and seed."""
    model, rows = _fit([log10_positive(rows["n_params"])], rows)
    if model is None:
        return no_line(rows)
    scales = rows["n_params"].to_numpy()
    if len(np.unique(scales)) < ENOUGH_SCALES:
        variance = examples_variance(model, _SLOPE, rows["seed"].to_numpy(), models_of(rows))
        half, estimand = normal_quantile() * np.sqrt(variance), THESE
    else:
        k, n = rows["n_success"].to_numpy(), rows["n_attacked"].to_numpy()
        stuck = bool(np.mean((k <= 1) | (k >= n - 1)) > _MOSTLY)
        half, estimand = scatter_half_width(model, _SLOPE, scales, saturated=stuck), ALIKE
    return _with_interval(model, _SLOPE, float(half), estimand, rows)


def slope_of_slopes(n_params: Sequence[float], fits: Sequence[LineFit], rows: pd.DataFrame) -> LineFit:
    """Attack-scaling slopes against log10 parameters, each with its variance from examples."""
    kept = [(n, fit.slope, fit.se) for n, fit in zip(n_params, fits, strict=True) if fit.slope is not None and fit.se]
    seeds, x = int(rows["seed"].nunique()), log10_positive([n for n, _, _ in kept])
    if not spread_out(x):
        return LineFit(None, None, None, None, len(kept), seeds)
    line = meta_line(x, np.array([b for _, b, _ in kept]), np.array([float(se) ** 2 for _, _, se in kept if se]))
    estimand = ALIKE if len(x) >= ENOUGH_SCALES else THESE
    low, high = line.slope - line.half, line.slope + line.half
    return LineFit(line.slope, line.intercept, low, high, len(kept), seeds, None, estimand)


def offense_defense(rows: pd.DataFrame, target: float) -> LineFit:
    """Attack compute that reaches ``target`` against defense compute, both log10 FLOPs, over rounds >= 1.

    One likelihood of the counts of all seeds, rounds and iterations (:mod:`hardscale.analysis.crossing`), whose curves
    may grow steeper or flatter with defense. Rounds that are never broken to the target count, unlike in the published
    method. Null when success does not rise with attack compute: then no compute reaches the target.
    """
    rows = rows[(rows["round"] >= 1) & (rows["iteration"] >= 1)]
    attack, defense = (log10_positive(rows[name]) for name in ("attack_flops_per_example", "defense_flops"))
    known = np.isfinite(attack) & np.isfinite(defense)
    rows = rows[known]
    if not len(rows):
        return no_line(rows)
    counts = rows["n_success"].to_numpy(), rows["n_attacked"].to_numpy()
    model = fit_crossing(attack[known], defense[known], *counts, models_of(rows), target)
    if model is None:
        return no_line(rows)
    return _line(model, np.eye(len(model.beta))[SLOPE], rows, unit=1.0)


def _within_scale(x: np.ndarray, rows: pd.DataFrame) -> LineFit:
    model, rows = _fit([x], rows)
    if model is None:
        return no_line(rows)
    within = persistence_of(rows)
    if within is None:  # a guess, half of it by how much rates of successive iterations scatter
        scatter = _persistence_by_scatter(model, rows)
        within = None if scatter is None else (scatter + WITHIN_MODEL) / 2
    return _line(model, _SLOPE, rows, within=within)


def _fit(columns: Sequence[np.ndarray], rows: pd.DataFrame) -> tuple[MixedModel | None, pd.DataFrame]:
    """The model of the rows whose covariates are known, and those rows."""
    x = np.column_stack(columns)
    known = np.isfinite(x).all(axis=1)
    rows, x = rows[known], x[known]
    if not len(rows):
        return None, rows
    return fit_mixed(x, rows["n_success"].to_numpy(), rows["n_attacked"].to_numpy(), models_of(rows)), rows


def models_of(rows: pd.DataFrame) -> np.ndarray:
    """Index of the model (scale, seed and round) of each row."""
    return rows.groupby(["n_params", "seed", "round"]).ngroup().to_numpy()


def _line(
    model: MixedModel, contrast: np.ndarray, rows: pd.DataFrame, unit: float = LN10, within: float | None = None
) -> LineFit:
    """The line within a scale with the interval of ``contrast @ beta``."""
    seeds = rows["seed"].to_numpy()
    n_seeds = len(np.unique(seeds))
    within = persistence_of(rows) if within is None else within
    variance = examples_variance(model, contrast, seeds, models_of(rows), within)
    half, estimand = normal_quantile() * np.sqrt(variance), THESE
    if n_seeds >= ENOUGH_SEEDS:
        quantile = float(student.ppf(0.975, n_seeds - 1))
        between = quantile**2 * cluster_variance(model, contrast, seeds)
        half = np.sqrt(between + normal_quantile() ** 2 * shared_variance(model, contrast))
        estimand = ALIKE
    return _with_interval(model, contrast, float(half), estimand, rows, unit, float(np.sqrt(variance)))


def _with_interval(
    model: MixedModel,
    contrast: np.ndarray,
    half: float,
    estimand: str,
    rows: pd.DataFrame,
    unit: float = LN10,
    se: float | None = None,
) -> LineFit:
    slope, intercept = float(contrast @ model.beta) / unit, float(model.beta[0]) / unit
    low, high = finite(slope - half / unit), finite(slope + half / unit)
    named = None if low is None else estimand
    seeds = int(rows["seed"].nunique())
    return LineFit(slope, intercept, low, high, len(rows), seeds, None if se is None else se / unit, named)


def _persistence_by_scatter(model: MixedModel, rows: pd.DataFrame) -> float | None:
    """Persistence of the iterations of each model, from how their rates scatter about the line."""
    curves = []
    order = np.argsort(rows["iteration"].to_numpy(), kind="stable")
    labels, k, n = models_of(rows)[order], rows["n_success"].to_numpy(float)[order], model.n[order]
    for label in np.unique(labels):
        own = labels == label
        if np.all(n[own] == n[own][0]) and n[own][0]:
            curves.append((k[own] / n[own], model.pi[order][own], float(n[own][0])))
    return persistence_by_scatter(curves)


def persistence_of(rows: pd.DataFrame) -> float | None:
    """Persistence of the iterations of each model, from the counts of examples that were broken once."""
    curves = []
    for _, curve in rows.groupby(models_of(rows)):
        curve = curve[curve["iteration"] >= 1].sort_values("iteration")
        once = pd.to_numeric(curve["n_success_any"]).to_numpy(float)
        k, n = curve["n_success"].to_numpy(float), curve["n_attacked"].to_numpy(float)
        complete = np.array_equal(curve["iteration"], np.arange(1, len(curve) + 1))
        if complete and len(once) and np.all(once >= np.maximum.accumulate(k)) and np.all(n == n[0]):
            curves.append((k / n, float(once[-1]), float(n[0])))
    return persistence(curves)
