"""Lines as the paper fits them: least squares on raw log10 odds, saturated points left out.

Points at 0/n and n/n have infinite log odds and are dropped, which bends slopes where attacks saturate;
:mod:`hardscale.analysis.fits_binomial` keeps them. The paper gives no intervals, and those of least squares would take
the iterations of an attack and the seeds of a scale for independent points: there are none. Offense-defense has one
point a round; its interval (Student's t) is about the line through the rounds that are broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import statsmodels.api as sm

from hardscale.analysis.estimands import CROSSED
from hardscale.analysis.line import LineFit, no_line, spread_out
from hardscale.analysis.logodds import log10_odds, log10_positive

METHOD = "published"


def least_squares(x: np.ndarray, y: np.ndarray, rows: pd.DataFrame, estimand: str | None = None) -> LineFit:
    """Ordinary least squares through the points whose x and y are finite; ``rows`` tells their seeds.

    Bounds are null unless ``estimand`` says what they would be about.
    """
    kept = np.isfinite(x) & np.isfinite(y)
    x, y, rows = x[kept], y[kept], rows[kept]
    if not spread_out(x):
        return no_line(rows)
    fit = sm.OLS(y, sm.add_constant(x)).fit()
    intercept, slope = fit.params
    seeds = int(rows["seed"].nunique())
    line = LineFit(float(slope), float(intercept), None, None, len(x), seeds)
    if estimand is None or len(x) <= 2:
        return line
    low, high = (float(bound) for bound in fit.conf_int()[1])
    return replace(line, ci_low=low, ci_high=high, estimand=estimand)


def attack_scaling(rows: pd.DataFrame) -> LineFit:
    """log10 odds of ``asr`` over all seeds and iterations >= 1, against log10 of attack over pretraining FLOPs.

    The compute of an iteration is that of the whole attacked set, averaged over seeds, over the number attacked,
    averaged over seeds: all seeds of an iteration stand at one x.
    """
    rows = rows[rows["iteration"] >= 1]
    whole = rows["attack_flops_per_example"] * rows["n_attacked"]
    attacked = rows["n_attacked"].where(whole.notna())
    mean_whole = whole.groupby(rows["iteration"]).transform("mean")
    mean_attacked = attacked.groupby(rows["iteration"]).transform("mean")
    x = log10_positive(mean_whole / mean_attacked) - log10_positive(rows["pretrain_flops"])
    return least_squares(x, log10_odds(rows["asr"]), rows)


def size(rows: pd.DataFrame) -> LineFit:
    """log10 odds of ``asr`` at the headline iteration against log10 parameters, one point per scale and seed."""
    return least_squares(log10_positive(rows["n_params"]), log10_odds(rows["asr"]), rows)


def defense_scaling(rows: pd.DataFrame) -> LineFit:
    """log10 odds of ``asr`` over rounds >= 1 and seeds, against log10 of defense over pretraining FLOPs.

    Defense compute is averaged over the seeds of a round first.
    """
    rows = rows[rows["round"] >= 1]
    mean = rows["defense_flops"].groupby(rows["round"]).transform("mean")
    x = log10_positive(mean) - log10_positive(rows["pretrain_flops"])
    return least_squares(x, log10_odds(rows["asr"]), rows)


def slope_of_slopes(n_params: Sequence[float], fits: Sequence[LineFit], rows: pd.DataFrame) -> LineFit:
    """Attack-scaling slopes against log10 parameters, one point per scale."""
    slopes = np.array([np.nan if fit.slope is None else fit.slope for fit in fits])
    line = least_squares(log10_positive(n_params), slopes, pd.DataFrame({"seed": np.zeros(len(slopes))}))
    return replace(line, n_seeds=int(rows["seed"].nunique()))


def offense_defense(rows: pd.DataFrame, target: float) -> LineFit:
    """log10 attack FLOPs per example that reach ``target`` against log10 defense FLOPs, one point per round >= 1.

    A round's curve is the median ``asr`` over its seeds; its compute is the mean. Rounds that are never broken to the
    target are missing.
    """
    rows = rows[rows["round"] >= 1]
    x, y = [], []
    for _, of_round in rows.groupby("round"):
        by_iteration = of_round.groupby("iteration")
        asr = by_iteration["asr"].median()
        flops = by_iteration["attack_flops_per_example"].mean()
        x.append(of_round["defense_flops"].mean())
        y.append(flops_for_target(asr.index.to_numpy(float), asr.to_numpy(), flops.to_numpy(), target))
    logs = log10_positive(np.array(x, dtype=float)), log10_positive(np.array(y, dtype=float))
    line = least_squares(*logs, pd.DataFrame({"seed": np.zeros(len(x))}), CROSSED)
    return replace(line, n_seeds=int(rows["seed"].nunique()))


def flops_for_target(iterations: np.ndarray, asr: np.ndarray, flops: np.ndarray, target: float) -> float:
    """Cumulative attack FLOPs at the first crossing of ``target``, interpolated; NaN when it is never crossed."""
    crossing = first_crossing(iterations, asr, target)
    if not np.isfinite(crossing):
        return float("nan")
    after = iterations > 0
    return float(np.interp(crossing, np.append(0.0, iterations[after]), np.append(0.0, flops[after])))


def first_crossing(iterations: np.ndarray, asr: np.ndarray, target: float) -> float:
    """Iteration at which a curve first reaches ``target``, linear between iterations; NaN when it never does.

    Success at iteration 0, before the attack, is 0 by definition when the curve does not hold it. A value equal to
    the target gives its own iteration.
    """
    if iterations[0] > 0:
        iterations, asr = np.concatenate([[0.0], iterations]), np.concatenate([[0.0], asr])
    reached = np.flatnonzero(asr >= target)
    if not len(reached):
        return float("nan")
    i = int(reached[0])
    if i == 0 or asr[i] == target:
        return float(iterations[i])
    share = (target - asr[i - 1]) / (asr[i] - asr[i - 1])
    return float(iterations[i - 1] + share * (iterations[i] - iterations[i - 1]))
