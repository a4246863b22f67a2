"""The attack compute that reaches a target rate, as a line in defense compute: one likelihood of all counts.

For a model with defense compute ``d`` (log10 FLOPs, centered) attacked with ``a`` (log10 FLOPs)

    ``logit p = logit(target) + exp(s0 + s1 d) (a - (c0 + c1 d) - sigma z)``,   ``z ~ N(0, 1)`` for each model.

``c0 + c1 d`` is where the curve of a model crosses the target, ``c1`` the slope of offense over defense. Curves may be
steeper after more defense (``s1``), so planes need not be parallel, and a round that is never broken to the target, or
from the first iteration on, says by its counts how far away its crossing is. ``sigma`` is how far crossings of equal
compute lie apart, integrated out by an adaptive quadrature. Weak priors keep all finite: normal of scale 1
on ``s1``, normal of scale 2 on ``s0``, half-normal of scale 1 on ``sigma``, and a normal of scale 3 on ``c1``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from hardscale.analysis.mixed import Counts, MixedModel, find_modes, fit_mixed

Array = NDArray[np.float64]
#: Nodes of the trapezoid rule in ``t``, from -1 to 1, for ``z = mode + width sinh(T t)``: dense at the mode, and wide
#: enough for the long side of a model that was never broken, whose shift is known to be large and no more.
_NODES = np.linspace(-1.0, 1.0, 41)
_REACH = 9.0
#: Standard deviations of the priors on ``c1``, ``s0``, ``s1`` and ``sigma``; ``c0`` has none.
_PRIOR = np.array([np.inf, 3.0, 2.0, 1.0, 1.0])
_SIGMA_MIN, _SIGMA_MAX = 1e-3, 4.0
_LOG_STEEPEST = 6.0
#: Place of ``c1`` among the coefficients.
SLOPE = 1


@dataclass(frozen=True)
class Curves:
    """Counts with the compute of attack and defense.

    Attributes:
        a: ``(m,)`` log10 attack FLOPs.
        d: ``(m,)`` log10 defense FLOPs less ``center``.
        center: what ``d`` is measured from.
        level: natural log odds of the target.
        counts: successes, trials and models; its design is not used.
    """

    a: Array
    d: Array
    center: float
    level: float
    counts: Counts

    def steepness(self, theta: Array) -> Array:
        """``(m,)`` rise of the log odds for a factor 10 of attack compute."""
        return np.exp(np.clip(theta[2] + theta[3] * self.d, -_LOG_STEEPEST, _LOG_STEEPEST))

    def log_odds(self, theta: Array, z: Array) -> Array:
        """``(m,)`` or ``(m, nodes)`` log odds, ``z`` by model."""
        rise = self.steepness(theta)
        mean = rise * (self.a - theta[0] - theta[1] * self.d)
        shift = theta[4] * z[self.counts.group]
        return self.level + (mean - rise * shift if z.ndim == 1 else mean[:, None] - rise[:, None] * shift)


def fit_crossing(
    attack: Array, defense: Array, k: Array, n: Array, models: NDArray, target: float
) -> MixedModel | None:
    """Fit the line on which ``target`` is reached.

    Args:
        attack: ``(m,)`` log10 attack FLOPs.
        defense: ``(m,)`` log10 defense FLOPs.
        k: ``(m,)`` successes.
        n: ``(m,)`` trials, all positive.
        models: ``(m,)`` labels of the models that rows belong to.
        target: success rate, between 0 and 1.

    Returns:
        The model linearized at its maximum, coefficients ``(c0, c1, s0, s1)`` in raw units with ``c0`` at defense 1
        FLOP; None where success does not rise with attack compute, or the compute does not vary.
    """
    plane = fit_mixed(np.column_stack([attack, defense]), k, n, models)
    if plane is None or plane.beta[1] <= 0:
        return None
    center = float(np.average(defense, weights=n))
    group = np.unique(models, return_inverse=True)[1].reshape(-1)
    counts = Counts(np.ones((len(k), 1)), np.asarray(k, float), np.asarray(n, float), group)
    curves = Curves(
        np.asarray(attack, float), np.asarray(defense, float) - center, center, float(logit(target)), counts
    )
    intercept, b, c = plane.beta
    start = np.array([(curves.level - intercept - c * center) / b, -c / b, np.log(b), 0.0, max(plane.sigma / b, 0.1)])
    theta = _maximize(start, curves)
    return _linearized(theta, curves)


def _maximize(start: Array, curves: Curves) -> Array:
    """The maximum of likelihood and priors, from the plane's line and from a flat one."""

    def negative(theta: Array) -> tuple[float, Array]:
        value, gradient = marginal(theta, curves)
        pulls = theta / _PRIOR**2
        return -value + 0.5 * float(theta @ pulls), -gradient + pulls

    low, high = float(curves.a.min()) - 30.0, float(curves.a.max()) + 30.0
    bounds = [(low, high), (-20.0, 20.0), (-_LOG_STEEPEST, _LOG_STEEPEST), (-4.0, 4.0), (_SIGMA_MIN, _SIGMA_MAX)]
    starts = [start, np.array([np.clip(start[0], low, high), 0.0, start[2], 0.0, 0.5])]
    found = [
        minimize(
            negative,
            [float(np.clip(value, *bound)) for value, bound in zip(one, bounds, strict=True)],
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-7},
        )
        for one in starts
    ]
    best = min(found, key=lambda result: float(result.fun))
    return np.asarray(best.x)


def marginal(theta: Array, curves: Curves) -> tuple[float, Array]:
    """Log likelihood with the models' shifts integrated out, and its gradient in ``(c0, c1, s0, s1, sigma)``.

    Binomial coefficients are left out. The gradient is the posterior mean of the complete-data score (Fisher's
    identity), taken by the same quadrature.
    """
    counts = curves.counts
    k, n, group = counts.k, counts.n, counts.group
    z, curvature = _modes(theta, curves)
    width = 1.0 / np.sqrt(curvature)
    longest = np.arcsinh(_REACH / width)
    bend = longest[:, None] * _NODES
    nodes = z[:, None] + width[:, None] * np.sinh(bend)
    eta = curves.log_odds(theta, nodes)
    terms = counts.by_group(k[:, None] * eta - n[:, None] * np.logaddexp(0.0, eta))
    logs = terms - 0.5 * nodes**2 + np.log(np.cosh(bend))
    top = logs.max(axis=1)
    posterior = np.exp(logs - top[:, None])
    total = posterior.sum(axis=1)
    step = width * longest * (_NODES[1] - _NODES[0])
    value = float(np.sum(top + np.log(total) + np.log(step) - 0.5 * np.log(2 * np.pi)))
    weight = (posterior / total[:, None])[group]
    residual = (k[:, None] - n[:, None] * expit(eta)) * weight
    rise, at_node = curves.steepness(theta), nodes[group]
    above = eta - curves.level
    by_shift = -rise * residual.sum(axis=1)
    by_rise = (residual * above).sum(axis=1)
    by_sigma = -(rise[:, None] * residual * at_node).sum()
    gradient = [by_shift.sum(), (by_shift * curves.d).sum(), by_rise.sum(), (by_rise * curves.d).sum(), by_sigma]
    return value, np.array(gradient)


def _modes(theta: Array, curves: Curves) -> tuple[Array, Array]:
    """Most likely shift of each model and the curvature there."""
    counts = curves.counts
    k, n = counts.k, counts.n
    rise = theta[4] * curves.steepness(theta)

    def derivatives(z: Array) -> tuple[Array, Array]:
        pi = expit(curves.log_odds(theta, z))
        return -counts.by_group(rise * (k - n * pi)) - z, 1.0 + counts.by_group(rise**2 * n * pi * (1 - pi))

    return find_modes(counts.n_groups, derivatives)


def _linearized(theta: Array, curves: Curves) -> MixedModel:
    """Everything that intervals need: the log odds as a linear function of the coefficients near the maximum."""
    counts = curves.counts
    k, n, group = counts.k, counts.n, counts.group
    z, _ = _modes(theta, curves)
    eta, rise = curves.log_odds(theta, z), curves.steepness(theta)
    pi = np.clip(expit(eta), 1e-12, 1 - 1e-12)
    above = eta - curves.level
    x = np.column_stack([-rise, -rise * curves.d, above, above * curves.d])
    weight, shift = n * pi * (1 - pi), -theta[4] * rise
    taken = counts.by_group((weight * shift)[:, None] * x) / (counts.by_group(weight * shift**2) + 1.0)[:, None]
    within = x - shift[:, None] * taken[group]
    information = x.T @ (weight[:, None] * within)
    bread = np.linalg.inv((information + information.T) / 2 + np.diag(_PRIOR[:4] ** -2.0))
    return MixedModel(
        beta=np.array([theta[0] - theta[1] * curves.center, *theta[1:4]]),
        sigma=float(theta[4]),
        bread=bread,
        x=x,
        within=within,
        n=n,
        pi=pi,
        residual=k - n * pi,
        chi_square=float(np.sum((k - n * pi) ** 2 / weight) + np.sum(z**2)),
    )
