"""Offense over defense by one likelihood: against numerical integration, finite differences and known crossings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit, logit

from hardscale.analysis.crossing import SLOPE, Curves, fit_crossing, marginal
from hardscale.analysis.mixed import Counts

TARGET = 0.05


def world(
    rng: np.random.Generator,
    *,
    slope: float = 0.7,
    grows: float = 0.0,
    spread: float = 0.2,
    seeds: int = 3,
    rounds: int = 8,
    examples: int = 400,
    lead: float = 1.2,
) -> tuple[Any, ...]:
    """Counts of attacks of 1 to 128 iterations, the longest of which passes the first crossing by ``lead`` (log10)."""
    d = np.repeat(np.linspace(14.0, 16.5, rounds), seeds)
    crossing = 12.0 + slope * (d - 14.0) + rng.normal(scale=spread, size=len(d)) if spread else 12.0 + slope * (d - 14)
    a = 12.0 + lead - np.log10(128) + np.log10([1, 2, 4, 8, 16, 32, 64, 128])
    rise = 2.5 * np.exp(grows * (d - d.mean()))
    eta = logit(TARGET) + rise[:, None] * (a[None, :] - crossing[:, None])
    k = rng.binomial(examples, expit(eta)) if spread else examples * expit(eta)
    columns = np.broadcast_arrays(a[None, :], d[:, None], k, np.full(1, examples), np.arange(len(d))[:, None])
    return tuple(column.ravel() for column in columns)


def curves(rng: np.random.Generator) -> Curves:
    a, d, k, n, models = world(rng, seeds=2, rounds=3, examples=20)
    counts = Counts(np.ones((len(k), 1)), k.astype(float), n.astype(float), models)
    return Curves(a, d - d.mean(), d.mean(), float(logit(TARGET)), counts)


THETAS = ([12.8, 0.5, 0.7, 0.2, 0.6], [11.5, -0.3, 0.1, -0.4, 0.05], [13.5, 1.1, 1.0, 0.0, 2.0])


@pytest.mark.parametrize("theta", THETAS)
def test_the_likelihood_is_the_integral_over_the_models_shifts(theta: list[float]) -> None:
    data = curves(np.random.default_rng(0))
    c0, c1, s0, s1, sigma = theta
    counts, total = data.counts, 0.0
    for model in range(counts.n_groups):
        rows = counts.group == model
        a, d, k, n = data.a[rows], data.d[rows], counts.k[rows], counts.n[rows]

        z = np.linspace(-14.0, 14.0, 280_001)[:, None]
        eta = data.level + np.exp(s0 + s1 * d) * (a - c0 - c1 * d - sigma * z)
        logs = (k * eta - n * np.logaddexp(0, eta)).sum(axis=1) - z[:, 0] ** 2 / 2 - np.log(2 * np.pi) / 2
        total += np.log(np.exp(logs - logs.max()).sum() * 1e-4) + logs.max()
    assert marginal(np.array(theta), data)[0] == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("theta", THETAS)
def test_the_gradient_is_that_of_the_likelihood(theta: list[float]) -> None:
    data = curves(np.random.default_rng(1))
    numeric = approx_fprime(np.array(theta), lambda at: marginal(at, data)[0], 1e-6)
    assert marginal(np.array(theta), data)[1] == pytest.approx(numeric, rel=2e-3, abs=2e-2)


@pytest.mark.parametrize("grows", [-0.3, 0.0, 0.3])
@pytest.mark.parametrize("lead", [2.5, 1.2, 0.5])
def test_crossings_without_noise_are_found_on_planes_that_are_not_parallel(grows: float, lead: float) -> None:
    """With a lead of 1.2 the attack reaches the target in 5 of 8 rounds only, with .5 in 2."""
    model = fit_crossing(*world(np.random.default_rng(0), grows=grows, spread=0.0, lead=lead, examples=10**6), TARGET)
    assert model is not None
    assert model.beta[SLOPE] == pytest.approx(0.7, abs=0.01)
    assert model.beta[0] == pytest.approx(12.0 - 0.7 * 14.0, abs=0.15)
    assert model.beta[3] == pytest.approx(grows, abs=0.02)


@pytest.mark.parametrize(("slope", "grows", "lead"), [(0.7, 0.0, 2.5), (0.3, 0.3, 1.2), (1.2, -0.3, 1.2)])
def test_the_mean_over_draws_is_the_slope(slope: float, grows: float, lead: float) -> None:
    found = []
    for seed in range(20):
        model = fit_crossing(*world(np.random.default_rng(seed), slope=slope, grows=grows, lead=lead), TARGET)
        assert model is not None
        found.append(model.beta[SLOPE])
    assert np.mean(found) == pytest.approx(slope, abs=3 * np.std(found) / np.sqrt(len(found)) + 0.03)


def test_success_that_does_not_rise_reaches_no_target() -> None:
    a, d, k, n, models = world(np.random.default_rng(0))
    assert fit_crossing(a, d, k[::-1].copy(), n, models, TARGET) is None
    assert fit_crossing(a, np.full(len(d), 15.0), k, n, models, TARGET) is None


def test_nothing_but_zeros_is_no_error() -> None:
    a, d, k, n, models = world(np.random.default_rng(0))
    model = fit_crossing(a, d, np.zeros(len(k)), n, models, TARGET)
    assert model is None or np.isfinite(model.beta).all()
