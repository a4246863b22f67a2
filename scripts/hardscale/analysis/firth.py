"""Binomial logit regression with Firth's penalty, which is finite where maximum likelihood is not.

The penalty is half the log determinant of the information (Jeffreys' prior; Firth, *Biometrika* 80 (1993) 27-38). It is
worth one pseudo-trial for each coefficient over the whole data set, so it moves nothing where there are hundreds of
examples, and it keeps every estimate finite where all counts are 0/n or n/n.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]
_MAX_STEPS = 200
_TOLERANCE = 1e-9


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
