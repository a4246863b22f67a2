"""Lines by binomial likelihood, saturated points kept, with intervals that do not count one example many times.

*Estimate*: logit regression of successes out of the number attacked with a random intercept for each model, i.e. each
scale, seed and round (:mod:`hardscale.analysis.mixed`). 0/n and n/n are data like any other; Firth's penalty, used in
every cell alike, keeps slopes finite where nothing else is there. Slopes are log10 odds per factor 10.

*Interval*, 95 %, Wald: the widest of

* examples (normal quantile): the largest variance that examples shared by all iterations of an attack and all rounds of
  a training allow. Plain binomial standard errors are too small because they take each iteration for fresh examples. It
  assumes that successes of one example under two conditions are not negatively correlated;
* within a scale (attack scaling, defence scaling, offense-defense), seeds: with three or more a sandwich over seeds
  (Student's t, seeds - 1); with fewer the model's own variance, scaled up by the scatter about the line (Student's t,
  points - coefficients). With one or two seeds the interval therefore says little of how seeds differ;
* across scales (size): the model's own variance, and with three scales or more a sandwich over scales, whose seeds
  share a pretrained model (Student's t, scales - 2).

Sandwiches were preferred to a bootstrap over seeds: three to five seeds can be resampled in few ways, which makes a
bootstrap interval too short, and it needs random numbers. Slope of slopes: least squares weighted by the precision of
each slope, residual scale never below 1, Student's t with scales - 2; with two scales precisions and normal quantile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.stats import t as student

from hardscale.analysis.crossing import SLOPE, fit_crossing
from hardscale.analysis.intervals import normal_quantile
from hardscale.analysis.line import LineFit, finite, no_line, spread_out
from hardscale.analysis.logodds import LN10, log10_positive
from hardscale.analysis.mixed import MixedModel, fit_mixed
from hardscale.analysis.points import log_attack_share, log_defense_share
from hardscale.analysis.variances import cluster_variance, model_variance, shared_examples_variance

METHOD = "binomial"
_ENOUGH = 3
_SLOPE = np.array([0.0, 1.0])


def attack_scaling(rows: pd.DataFrame) -> LineFit:
    """Log odds over all seeds and iterations >= 1 against log10 of attack over pretraining FLOPs."""
    rows = rows[rows["iteration"] >= 1]
    return _within_scale(log_attack_share(rows), rows)


def defense_scaling(rows: pd.DataFrame) -> LineFit:
    """Log odds over rounds >= 1 and seeds against log10 of defence over pretraining FLOPs."""
    rows = rows[rows["round"] >= 1]
    return _within_scale(log_defense_share(rows), rows)


def size(rows: pd.DataFrame) -> LineFit:
    """Log odds at the headline iteration against log10 parameters, one point per scale and seed."""
    model, rows = _fit([log10_positive(rows["n_params"])], rows)
    if model is None:
        return no_line(rows)
    scales = rows["n_params"].to_numpy()
    n_scales = len(np.unique(scales))
    half = _quantile(len(rows) - 2) * np.sqrt(model_variance(model, _SLOPE))
    if n_scales >= _ENOUGH:
        half = max(half, _quantile(n_scales - 2) * np.sqrt(cluster_variance(model, _SLOPE, scales)))
    return _line(model.beta[1], model.beta[0], half, rows)


def slope_of_slopes(n_params: Sequence[float], fits: Sequence[LineFit], rows: pd.DataFrame) -> LineFit:
    """Attack-scaling slopes against log10 parameters, weighted by their precision."""
    kept = [(n, fit.slope, fit.se) for n, fit in zip(n_params, fits, strict=True) if fit.slope is not None and fit.se]
    seeds = int(rows["seed"].nunique())
    x = log10_positive([n for n, _, _ in kept])
    if not spread_out(x):
        return LineFit(None, None, None, None, len(kept), seeds)
    y, weight = np.array([b for _, b, _ in kept]), np.array([1 / float(se) ** 2 for _, _, se in kept if se])
    fit = sm.WLS(y, sm.add_constant(x), weights=weight).fit()
    degrees = len(kept) - 2
    scale = max(1.0, float(fit.scale)) if degrees else 1.0
    se = float(np.sqrt(scale * fit.normalized_cov_params[1, 1]))
    half = _quantile(degrees) * se
    intercept, slope = (float(value) for value in fit.params)
    return LineFit(slope, intercept, slope - half, slope + half, len(kept), seeds, se)


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
    models = rows.groupby(["n_params", "seed", "round"]).ngroup().to_numpy()
    counts = rows["n_success"].to_numpy(), rows["n_attacked"].to_numpy()
    model = fit_crossing(attack[known], defense[known], *counts, models, target)
    if model is None:
        return no_line(rows)
    contrast = np.eye(len(model.beta))[SLOPE]
    return _line(model.beta[SLOPE], model.beta[0], _half_width(model, contrast, rows), rows, unit=1.0)


def _within_scale(x: np.ndarray, rows: pd.DataFrame) -> LineFit:
    model, rows = _fit([x], rows)
    if model is None:
        return no_line(rows)
    return _line(model.beta[1], model.beta[0], _half_width(model, _SLOPE, rows), rows)


def _fit(columns: Sequence[np.ndarray], rows: pd.DataFrame) -> tuple[MixedModel | None, pd.DataFrame]:
    """The model of the rows whose covariates are known, and those rows."""
    x = np.column_stack(columns)
    known = np.isfinite(x).all(axis=1)
    rows, x = rows[known], x[known]
    if not len(rows):
        return None, rows
    models = rows.groupby(["n_params", "seed", "round"]).ngroup().to_numpy()
    return fit_mixed(x, rows["n_success"].to_numpy(), rows["n_attacked"].to_numpy(), models), rows


def _half_width(model: MixedModel, contrast: np.ndarray, rows: pd.DataFrame) -> float:
    """Half the 95 % interval of ``contrast @ beta`` for points within a scale."""
    seeds = rows["seed"].to_numpy()
    n_seeds = len(np.unique(seeds))
    examples = normal_quantile() * np.sqrt(shared_examples_variance(model, contrast, seeds))
    if n_seeds >= _ENOUGH:
        models = _quantile(n_seeds - 1) * np.sqrt(cluster_variance(model, contrast, seeds))
    else:
        models = _quantile(len(rows) - len(model.beta)) * np.sqrt(model_variance(model, contrast))
    return float(max(examples, models))


def _quantile(degrees: int) -> float:
    return float(student.ppf(0.975, degrees)) if degrees > 0 else normal_quantile()


def _line(slope: float, intercept: float, half: float, rows: pd.DataFrame, unit: float = LN10) -> LineFit:
    low, high = (slope - half) / unit, (slope + half) / unit
    se = half / normal_quantile() / unit
    n_seeds = int(rows["seed"].nunique())
    return LineFit(slope / unit, intercept / unit, finite(low), finite(high), len(rows), n_seeds, se)
