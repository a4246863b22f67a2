"""How often an example is broken at least once: against drawing, and the way back."""

import numpy as np
import pytest
from scipy.stats import norm

from hardscale.analysis.variances import (
    hardness_variance,
    persistence,
    persistence_by_scatter,
    share_broken_once,
    sum_variance,
)

RATES = np.array([0.1, 0.35, 0.2, 0.5])


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8, 1.0])
def test_shares_and_variances_are_those_of_drawn_examples(kept: float) -> None:
    rng = np.random.default_rng(0)
    n, weights = 400_000, np.array([-1.0, 0.3, -0.5, 1.2])
    latent = np.sqrt(kept) * rng.normal(size=(n, 1)) + np.sqrt(1 - kept) * rng.normal(size=(n, 4))
    broken = latent < norm.ppf(RATES)
    assert share_broken_once(RATES, kept) == pytest.approx(broken.any(axis=1).mean(), abs=0.004)
    assert sum_variance(weights, RATES, kept) == pytest.approx(np.var(broken @ weights), rel=0.02)
    hardness = rng.normal(size=(n, 1))
    first, second = (
        np.sqrt(kept) * hardness + np.sqrt(1 - kept) * rng.normal(size=(n, 4)) < norm.ppf(RATES) for _ in range(2)
    )
    shared = np.cov(first @ weights, second @ weights)[0, 1]
    assert hardness_variance(weights, RATES, kept) == pytest.approx(shared, abs=0.005)


def test_the_ends_are_independence_and_what_is_broken_stays_broken() -> None:
    assert share_broken_once(RATES, 0.0) == pytest.approx(1 - np.prod(1 - RATES))
    assert share_broken_once(RATES, 1.0) == pytest.approx(0.5, abs=0.003)
    frechet = np.minimum.outer(RATES, RATES) - np.outer(RATES, RATES)
    weights = np.array([-1.0, 0.3, -0.5, 1.2])
    assert sum_variance(weights, RATES, 1.0) == pytest.approx(weights @ frechet @ weights, abs=0.005)


@pytest.mark.parametrize("kept", [0.1, 0.6, 0.95])
def test_persistence_is_found_again_over_models(kept: float) -> None:
    curves = [(rates, n * share_broken_once(rates, kept), n) for rates, n in ((RATES, 100.0), (RATES / 2, 300.0))]
    assert persistence(curves) == pytest.approx(kept, abs=1e-3)


def test_counts_outside_the_range_are_its_ends_and_no_counts_say_nothing() -> None:
    assert persistence([(RATES, 100.0, 100.0)]) == 0.0
    assert persistence([(RATES, 50.0, 100.0)]) == 1.0
    assert persistence([]) is None
    assert persistence([(np.zeros(4), 0.0, 100.0), (np.ones(4), 100.0, 100.0), (RATES[:1], 10.0, 100.0)]) is None


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8])
def test_persistence_is_seen_in_how_rates_scatter(kept: float) -> None:
    rng, n = np.random.default_rng(1), 200
    fitted = np.linspace(0.2, 0.6, 12)
    curves = []
    for _ in range(300):
        latent = np.sqrt(kept) * rng.normal(size=(n, 1)) + np.sqrt(1 - kept) * rng.normal(size=(n, len(fitted)))
        curves.append(((latent < norm.ppf(fitted)).mean(axis=0), fitted, float(n)))
    assert persistence_by_scatter(curves) == pytest.approx(kept, abs=0.05)


def test_smooth_rates_are_what_stays_broken_and_single_ones_say_nothing() -> None:
    fitted = np.linspace(0.2, 0.6, 12)
    assert persistence_by_scatter([(fitted, fitted, 100.0)]) == 1.0
    assert persistence_by_scatter([(np.tile([0.0, 1.0], 6), fitted, 100.0)]) == 0.0
    assert persistence_by_scatter([(fitted[:1], fitted[:1], 100.0)]) is None
