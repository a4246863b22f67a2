"""Logit regression with a random intercept for each model, for counts that saturate.

Two models that differ in nothing but a seed or a round differ in log odds by more than the sampling noise of 200
examples. A pooled binomial likelihood takes that for noise of the examples: the few models with a rate near 1/2 then
outweigh all others, and slopes shrink. Here ``logit p = x @ beta + sigma z`` with ``z`` standard normal for each model,
integrated out by adaptive Gauss-Hermite quadrature. Two weak priors keep it finite: Firth's penalty on ``beta`` and a
half-normal of scale 2 natural log odds on ``sigma``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_NODES, _WEIGHTS = np.polynomial.hermite.hermgauss(11)
_SIGMA_PRIOR = 2.0
_SIGMA_MAX = 8.0
_NO_SPREAD = 1e-4


_MAX_STEPS = 200
_TOLERANCE = 1e-9


class Counts:
    """Successes, trials and design of the rows, and which model each row belongs to.

    Attributes:
        x: ``(m, p)`` design, first column ones.
        k: ``(m,)`` successes.
        n: ``(m,)`` trials.
        group: ``(m,)`` index of the row's model, 0 to ``n_groups - 1``.
    """

    def __init__(self, x: Array, k: Array, n: Array, group: Index) -> None:
        self.x, self.k, self.n, self.group = x, k, n, group
        self.n_groups = int(group.max()) + 1
        shape = (self.n_groups, len(k))
        self._gather = csr_array((np.ones(len(k)), (group, np.arange(len(k)))), shape=shape)

    def by_group(self, values: Array) -> Array:
        """Sums over the rows of each model of ``(m,)`` or ``(m, q)`` values."""
        return np.asarray(self._gather @ values)


@dataclass(frozen=True)
class MixedModel:
    """A fitted model; everything is in the units of the columns that were given.

    Attributes:
        beta: ``(p,)`` natural log-odds coefficients.
        sigma: standard deviation of the random intercepts.
        bread: ``(p, p)`` inverse of the marginal information (Laplace).
        x: ``(m, p)`` design, first column ones.
        within: ``(m, p)`` design less what the random intercept of the row's model takes up.
        n: ``(m,)`` trials.
        pi: ``(m,)`` probabilities at the modes of the random intercepts.
        residual: ``(m,)`` count residuals at the modes, the penalty's share in.
        chi_square: Pearson's, of residuals and random intercepts.
    """

    beta: Array
    sigma: float
    bread: Array
    x: Array
    within: Array
    n: Array
    pi: Array
    residual: Array
    chi_square: float

    def influence(self, contrast: Array) -> Array:
        """``(m,)`` change of ``contrast @ beta`` for one more success in a row."""
        return np.asarray(self.within @ self.bread @ contrast)


def fit_mixed(columns: Array, k: Array, n: Array, groups: NDArray) -> MixedModel | None:
    """Fit ``k`` successes of ``n`` on columns, with a random intercept for each group.

    Args:
        columns: ``(m, p - 1)`` covariates without the constant.
        k: ``(m,)`` successes.
        n: ``(m,)`` trials, all positive.
        groups: ``(m,)`` labels of the models that rows belong to. With one model, or no more models than coefficients
            and one row each, there is no spread to estimate and none is fitted.

    Returns:
        The model; None when the covariates do not determine their coefficients (constant or collinear).
    """
    columns, k, n = (np.asarray(a, dtype=float) for a in (columns, k, n))
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    center, spread = columns.mean(axis=0), columns.std(axis=0)
    if len(k) < columns.shape[1] + 1 or np.any(spread <= 1e-9 * np.maximum(1.0, np.abs(center))):
        return None
    x = np.column_stack([np.ones(len(k)), (columns - center) / spread])
    if np.linalg.matrix_rank(x, tol=1e-8 * np.sqrt(len(k))) < x.shape[1]:
        return None
    counts = Counts(x, k, n, group)
    beta, sigma = firth(x, k, n), 0.0
    if counts.n_groups >= 2 and len(k) > x.shape[1]:
        beta, sigma = _maximize(beta, counts)
    return _in_raw_units(beta, sigma, counts, center, spread)


def _maximize(start: Array, counts: Counts) -> tuple[Array, float]:
    """The penalized marginal likelihood's maximum over coefficients and spread."""
    x, n = counts.x, counts.n

    def negative(theta: Array) -> tuple[float, Array]:
        value, gradient = marginal(theta[:-1], float(theta[-1]), counts)
        _, information, penalty = jeffreys(theta[:-1], x, n)
        value += 0.5 * float(np.linalg.slogdet(information)[1]) - 0.5 * (theta[-1] / _SIGMA_PRIOR) ** 2
        gradient = gradient + np.append(x.T @ penalty, -theta[-1] / _SIGMA_PRIOR**2)
        return -value, -gradient

    bounds = [(-60.0, 60.0)] * x.shape[1] + [(_NO_SPREAD, _SIGMA_MAX)]
    options = {"maxiter": 500, "ftol": 1e-13, "gtol": 1e-6}
    best = minimize(negative, np.append(start, 0.5), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    theta = _polish(best.x, lambda at: negative(at)[1])
    # The likelihood without spread has its maximum in closed reach: take it exactly where it is as good.
    if theta[-1] <= 2 * _NO_SPREAD or negative(np.append(start, 0.0))[0] <= negative(theta)[0] + 1e-9:
        return start, 0.0
    return theta[:-1], float(theta[-1])


def _polish(theta: Array, gradient: Callable[[Array], Array]) -> Array:
    """Newton's steps on the gradient, for digits that a quasi-Newton search leaves when counts are large."""
    size = np.abs(now := gradient(theta)).max()
    for _ in range(8):
        steps = 1e-5 * np.eye(len(theta))
        hessian = np.array([(gradient(theta + step) - gradient(theta - step)) / 2e-5 for step in steps])
        try:
            new = theta - np.linalg.solve((hessian + hessian.T) / 2, now)
        except np.linalg.LinAlgError:
            break
        if not (_NO_SPREAD < new[-1] < _SIGMA_MAX) or np.abs(new - theta).max() > 0.5:
            break
        after = gradient(new)
        if np.abs(after).max() >= size:
            break
        moved, theta, now, size = np.abs(new - theta).max(), new, after, np.abs(after).max()
        if moved < 1e-9:
            break
    return theta


def marginal(beta: Array, sigma: float, counts: Counts) -> tuple[float, Array]:
    """Log likelihood with the random intercepts integrated out, and its gradient in ``(beta, sigma)``.

    Binomial coefficients are left out. The gradient is the posterior mean of the complete-data score (Fisher's
    identity), taken by the same quadrature.
    """
    x, k, n, group = counts.x, counts.k, counts.n, counts.group
    z, curvature = _modes(x @ beta, sigma, counts)
    scale = np.sqrt(2.0 / curvature)
    nodes = z[:, None] + scale[:, None] * _NODES
    eta = (x @ beta)[:, None] + sigma * nodes[group]
    terms = counts.by_group(k[:, None] * eta - n[:, None] * np.logaddexp(0.0, eta))
    logs = terms - 0.5 * nodes**2 + _NODES**2 + np.log(_WEIGHTS)
    top = logs.max(axis=1)
    posterior = np.exp(logs - top[:, None])
    total = posterior.sum(axis=1)
    value = float(np.sum(top + np.log(total) + np.log(scale) - 0.5 * np.log(2 * np.pi)))
    posterior = posterior / total[:, None]
    residual = (k[:, None] - n[:, None] * expit(eta)) * posterior[group]
    gradient = np.append(x.T @ residual.sum(axis=1), np.sum(residual * nodes[group]))
    return value, gradient


def _modes(eta: Array, sigma: float, counts: Counts) -> tuple[Array, Array]:
    """Most likely standardized intercept of each model and the curvature there."""
    k, n, group = counts.k, counts.n, counts.group

    def derivatives(z: Array) -> tuple[Array, Array]:
        pi = expit(eta + sigma * z[group])
        return sigma * counts.by_group(k - n * pi) - z, 1.0 + sigma**2 * counts.by_group(n * pi * (1 - pi))

    return find_modes(counts.n_groups, derivatives)


def find_modes(n_groups: int, derivatives: Callable[[Array], tuple[Array, Array]]) -> tuple[Array, Array]:
    """Maxima of concave functions, one for each group: Newton's steps, kept in a bracket.

    Args:
        n_groups: number of functions.
        derivatives: from ``(n_groups,)`` places the slopes and the curvatures (minus the second derivatives) there.

    Returns:
        the maxima, and the curvatures at the last step's begin.
    """
    z = np.zeros(n_groups)
    low, high = np.full_like(z, -np.inf), np.full_like(z, np.inf)
    curvature = np.ones_like(z)
    for _ in range(100):
        slope, curvature = derivatives(z)
        low, high = np.where(slope >= 0, z, low), np.where(slope <= 0, z, high)
        new = z + np.clip(slope / curvature, -2.0, 2.0)
        outside = ((new <= low) | (new >= high)) & (new != z)
        new[outside] = (low[outside] + high[outside]) / 2
        moved = float(np.abs(new - z).max())
        z = new
        if moved < 1e-9:
            break
    return z, curvature


def _in_raw_units(beta: Array, sigma: float, counts: Counts, center: Array, spread: Array) -> MixedModel:
    """Everything that intervals need, from the standardized columns of the fit to the columns as given."""
    x, k, n, group = counts.x, counts.k, counts.n, counts.group
    z, _ = _modes(x @ beta, sigma, counts)
    pi = np.clip(expit(x @ beta + sigma * z[group]), 1e-12, 1 - 1e-12)
    weight = n * pi * (1 - pi)
    within = x
    if sigma > 0:
        taken = counts.by_group(weight[:, None] * x) / (counts.by_group(weight) + sigma**-2)[:, None]
        within = x - taken[group]
    information = x.T @ (weight[:, None] * within)
    # beta_raw = transform @ beta, x_raw = x @ inverse(transform).
    transform = np.diag(np.append(1.0, 1 / spread))
    transform[0, 1:] = -center / spread
    inverse = np.linalg.inv(transform)
    bread = np.linalg.inv((information + information.T) / 2)
    return MixedModel(
        beta=transform @ beta,
        sigma=sigma,
        bread=transform @ bread @ transform.T,
        x=x @ inverse,
        within=within @ inverse,
        n=n,
        pi=pi,
        residual=k - n * pi + jeffreys(beta, x, n)[2],
        chi_square=float(np.sum((k - n * pi) ** 2 / weight) + np.sum(z**2)),
    )


def firth(x: Array, k: Array, n: Array) -> Array:
    """Maximize the penalized likelihood by Fisher scoring with step halving.

    Args:
        x: ``(m, p)`` design of full rank, first column ones, the others of order 1.
        k: ``(m,)`` successes.
        n: ``(m,)`` trials, all positive.

    Returns:
        ``(p,)`` natural log-odds coefficients.
    """
    share = (k.sum() + 0.5) / (n.sum() + 1.0)
    beta = np.zeros(x.shape[1])
    beta[0] = np.log(share / (1 - share))
    value = _objective(beta, x, k, n)
    for _ in range(_MAX_STEPS):
        pi, information, penalty = jeffreys(beta, x, n)
        step = np.linalg.solve(information, x.T @ (k - n * pi + penalty))
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        new = _objective(beta + step, x, k, n)
        while new < value - 1e-12 * abs(value) and np.abs(step).max() > _TOLERANCE:
            step = step / 2
            new = _objective(beta + step, x, k, n)
        beta, value = beta + step, new
        if np.abs(step).max() <= _TOLERANCE:
            break
    return beta


def jeffreys(beta: Array, x: Array, n: Array) -> tuple[Array, Array, Array]:
    """Fitted probabilities ``(m,)``, information ``(p, p)``, penalty residuals ``h (1/2 - pi)`` ``(m,)``."""
    pi = np.clip(expit(x @ beta), 1e-12, 1 - 1e-12)
    weight = n * pi * (1 - pi)
    information = x.T @ (weight[:, None] * x)
    leverage = weight * np.einsum("ij,ji->i", x, np.linalg.solve(information, x.T))
    return pi, information, leverage * (0.5 - pi)


def _objective(beta: Array, x: Array, k: Array, n: Array) -> float:
    eta = x @ beta
    information = jeffreys(beta, x, n)[1]
    return float(k @ eta - n @ np.logaddexp(0.0, eta) + 0.5 * np.linalg.slogdet(information)[1])
