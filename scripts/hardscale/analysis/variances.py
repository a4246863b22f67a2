"""Variances of a coefficient of a mixed model that do not count one example many times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardscale.analysis.mixed import MixedModel

Array = NDArray[np.float64]


def model_variance(model: MixedModel, contrast: Array) -> float:
    """Variance of ``contrast @ beta`` by the model, scaled up where scatter about the line exceeds it.

    The factor is Pearson's chi-square over its degrees of freedom and never below 1: less scatter is no evidence.
    """
    degrees = len(model.n) - len(model.beta)
    factor = max(1.0, model.chi_square / degrees) if degrees > 0 else 1.0
    return float(factor * contrast @ model.bread @ contrast)


def cluster_variance(model: MixedModel, contrast: Array, clusters: NDArray) -> float:
    """Sandwich variance of ``contrast @ beta`` over G clusters, times ``G / (G - 1)``."""
    scores = (model.x @ model.bread @ contrast) * model.residual
    names, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index.reshape(-1), weights=scores)
    return float(len(names) / (len(names) - 1) * np.sum(sums**2))


def shared_examples_variance(model: MixedModel, contrast: Array, clusters: NDArray) -> float:
    """Largest variance of ``contrast @ beta`` from drawing examples, when rows of a cluster share their examples.

    Success of one example under two conditions with probabilities p <= q has a covariance of at most ``p (1 - q)``
    (Fréchet's bound, reached when what is once broken stays broken) and, for attacks, at least 0. The bound is taken
    for pairs that add to the variance, 0 for pairs that would lower it. Counting the iterations of one attack as fresh
    examples is what this avoids.
    """
    weight = model.influence(contrast) * np.sqrt(model.n)
    total = 0.0
    for cluster in np.unique(clusters):
        for sign in (1.0, -1.0):
            rows = (clusters == cluster) & (sign * weight > 0)
            total += _frechet(sign * weight[rows], model.pi[rows])
    return total


def _frechet(weight: Array, pi: Array) -> float:
    """``sum_ij w_i w_j (min(p_i, p_j) - p_i p_j)`` in O(m log m)."""
    order = np.argsort(pi, kind="stable")
    w, p = weight[order], pi[order]
    larger = np.cumsum(w[::-1])[::-1] - w
    return float(np.sum(w * p * (w + 2 * larger)) - np.sum(w * p) ** 2)
