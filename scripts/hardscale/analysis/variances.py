"""Variances of a coefficient of a mixed model that do not count one example many times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import norm
from scipy.stats import t as student

from hardscale.analysis.mixed import MixedModel

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

#: Persistence (:mod:`hardscale.analysis.variances`) of iterations where no count tells it.
WITHIN_MODEL = 0.85
#: ... of two rounds of one training: other models, which descend from each other.
BETWEEN_ROUNDS = 0.4
#: ... of two seeds. Counts cannot tell it: that examples are hard for all looks like no difference between seeds.
BETWEEN_SEEDS = 0.1


#: Hardness at the middles of equally likely parts.
_HARDNESS = ndtri((np.arange(200) + 0.5) / 200)
_HIGHEST = 1 - 1e-6


def cluster_variance(model: MixedModel, contrast: Array, clusters: NDArray) -> float:
    """Jackknife variance of ``contrast @ beta``: each of the G clusters is left out, by one Newton step.

    ``(G - 1) / G sum_g (contrast @ (I - I_g)^-1 s_g)^2`` with ``I`` the information, ``I_g`` that of a cluster and
    ``s_g`` its score. Where clusters weigh the same it is the sandwich times ``G / (G - 1)``; where one tells more than
    others the sandwich is too small.
    """
    names, index = np.unique(clusters, return_inverse=True)
    # In the coordinates in which the information is the identity, whatever the units of the columns.
    root, weight = np.linalg.cholesky(model.bread), model.n * model.pi * (1 - model.pi)
    x, within, direction = model.x @ root, model.within @ root, contrast @ root
    moved = []
    for g in range(len(names)):
        rows = index.reshape(-1) == g
        own = x[rows].T @ (weight[rows, None] * within[rows])
        left = np.eye(len(root)) - (own + own.T) / 2
        moved.append(float(direction @ np.linalg.lstsq(left, x[rows].T @ model.residual[rows], rcond=None)[0]))
    return float((len(names) - 1) / len(names) * np.sum(np.square(moved)))


def scatter_half_width(
    model: MixedModel, contrast: Array, clusters: NDArray, *, saturated: bool = False, level: float = 0.95
) -> float:
    """Half an interval of ``contrast @ beta`` for new clusters (scales), from how far the clusters scatter.

    Linearized at its maximum the model is a weighted regression of clusters: with ``r_c`` the sum of the residuals of a
    cluster and ``W_c`` that of its weights, ``s^2 = sum_c r_c^2 / W_c / (C - p)``, without what the coefficients could
    explain of the ``r_c``, scales the model's variance, and Student's t has ``C - p`` degrees of freedom. With equal
    weights that is least squares of cluster means, and exact.

    Args:
        model: the fit.
        contrast: ``(p,)`` weights of the coefficients.
        clusters: ``(m,)`` labels, more than coefficients.
        saturated: counts are stuck at 0 or at all and scatter less than the rates behind them: the half width is no
            smaller than the model's own (normal quantile).
        level: confidence level.
    """
    names, index = np.unique(clusters, return_inverse=True)
    index = index.reshape(-1)
    weight = model.n * model.pi * (1 - model.pi) * model.within[:, 0]
    residual, weights = (np.bincount(index, weights=w, minlength=len(names)) for w in (model.residual, weight))
    columns = [np.bincount(index, weights=weight * column, minlength=len(names)) / weights for column in model.x.T]
    root = np.sqrt(weights)
    design, scatter = root[:, None] * np.column_stack(columns), residual / root
    # The penalty leaves in the residuals a part that the coefficients could explain: it is no scatter.
    scatter = scatter - design @ np.linalg.lstsq(design, scatter, rcond=None)[0]
    squares, degrees = float(np.sum(scatter**2)), len(names) - len(model.beta)
    variance = float(contrast @ model.bread @ contrast)
    half = student.ppf(0.5 + level / 2, degrees) * np.sqrt(squares / degrees * variance)
    if saturated:
        half = max(half, norm.ppf(0.5 + level / 2) * np.sqrt(variance))
    return float(half)


def examples_variance(
    model: MixedModel, contrast: Array, seeds: NDArray, models: NDArray, persistence: float | None = None
) -> float:
    """Variance of ``contrast @ beta`` from drawing examples, on which every model of the cell is attacked.

    How hard an example is goes through all its iterations (``persistence``), to an extent through the rounds of a
    training (:data:`BETWEEN_ROUNDS`) and a little through seeds (:data:`BETWEEN_SEEDS`). What two models share may as
    well cancel in a slope: where models that share nothing have the larger variance, it is theirs.

    Args:
        model: the fit.
        contrast: ``(p,)`` weights of the coefficients.
        seeds: ``(m,)`` seed of each row.
        models: ``(m,)`` label of the model (scale, seed and round) of each row.
        persistence: of the iterations of one model; :data:`WITHIN_MODEL` where unknown.
    """
    weight = model.influence(contrast) * np.sqrt(model.n)
    within = WITHIN_MODEL if persistence is None else persistence
    rounds = min(BETWEEN_ROUNDS, within)
    between = min(BETWEEN_SEEDS, rounds)
    by_model, by_seed = _parts(models), _parts(seeds)

    def shared(parts: list[Rows], extent: float) -> float:
        return sum(hardness_variance(weight[rows], model.pi[rows], extent) for rows in parts)

    apart = sum(sum_variance(weight[rows], model.pi[rows], within) for rows in by_model)
    over_rounds = shared(by_seed, rounds) - shared(by_model, rounds)
    over_seeds = shared([np.arange(len(weight))], between) - shared(by_seed, between)
    return apart + max(0.0, over_rounds + over_seeds)


def shared_variance(model: MixedModel, contrast: Array) -> float:
    """The part of :func:`examples_variance` that all seeds share, and that differences between seeds do not show."""
    return hardness_variance(model.influence(contrast) * np.sqrt(model.n), model.pi, BETWEEN_SEEDS)


def _parts(labels: NDArray) -> list[Rows]:
    """Rows of each label."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(np.unique(labels[order], return_inverse=True)[1].reshape(-1))) + 1
    return np.split(order, starts)


def chances(rates: Array, persistence: float) -> Array:
    """Chance of success at each iteration of an example of each hardness.

    Args:
        rates: ``(m,)`` success rates of the iterations.
        persistence: between 0 and 1.

    Returns:
        ``(m, hardness)``, equally likely columns.
    """
    c = min(persistence, _HIGHEST)
    limits = ndtri(np.clip(rates, 1e-12, 1 - 1e-12))
    return np.asarray(ndtr((limits[:, None] - np.sqrt(c) * _HARDNESS) / np.sqrt(1 - c)))


def share_broken_once(rates: Array, persistence: float) -> float:
    """Share of examples broken at one iteration at least."""
    return float(1 - np.mean(np.prod(1 - chances(rates, persistence), axis=0)))


def hardness_variance(weights: Array, rates: Array, persistence: float) -> float:
    """Variance of the sum of weighted successes on one example that comes from how hard it is."""
    return float(np.var(weights @ chances(rates, persistence)))


def sum_variance(weights: Array, rates: Array, persistence: float) -> float:
    """Variance of the sum of weighted successes on one example."""
    q = chances(rates, persistence)
    alone = rates * (1 - rates) - np.var(q, axis=1)
    return float(np.var(weights @ q) + weights**2 @ np.maximum(alone, 0.0))


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
    return float(brentq(excess, 0.0, 1.0, xtol=1e-4))


def persistence_by_scatter(curves: Sequence[tuple[Array, Array, float]]) -> float | None:
    """The persistence at which rates of successive iterations scatter about fitted ones as much as they did.

    What is broken stays broken where examples alone decide, and rates then rise smoothly; where every iteration draws
    anew they jump as counts do. A moment estimate: ``sum n d^2 = sum v(c)`` with ``d`` the change of a residual from
    one iteration to the next and ``v`` its variance on one example.

    Args:
        curves: for each model ``(m,)`` success rates of its iterations in order, ``(m,)`` fitted ones, and the number
            attacked.

    Returns:
        between 0 and 1; None where no model has two iterations.
    """
    pairs = [(r[:-1], r[1:], f[:-1], f[1:], n) for r, f, n in curves if len(r) >= 2]
    if not pairs:
        return None
    first, second = (np.concatenate([pair[i] for pair in pairs]) for i in (2, 3))
    found = sum(n * float(np.sum(((r1 - f1) - (r0 - f0)) ** 2)) for r0, r1, f0, f1, n in pairs)

    def excess(at: float) -> float:
        joint = np.mean(chances(first, at) * chances(second, at), axis=1) - first * second
        return float(np.sum(first * (1 - first) + second * (1 - second) - 2 * joint)) - found

    if excess(0.0) <= 0:
        return 0.0
    if excess(1.0) >= 0:
        return 1.0
    return float(brentq(excess, 0.0, 1.0, xtol=1e-4))
