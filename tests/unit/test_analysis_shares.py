"""Rates over the models of a cell: what each interval is about, and how often it holds."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t as student

from hardscale.analysis.intervals import wilson
from hardscale.analysis.summary import SHARED_HARDNESS, SHARED_IN_ODDS, share_of_these, share_of_typical
from hardscale.errors import DataError


@pytest.mark.parametrize("k", [0, 3, 20])
def test_of_one_model_it_is_wilsons(k: int) -> None:
    assert share_of_these([k], [20]) == pytest.approx((k / 20, *wilson(k, 20)))


def test_of_equal_models_it_is_wilsons_of_the_examples_there_are() -> None:
    effective = 3 * 40 / (1 + 2 * SHARED_HARDNESS)
    p = 10.5 / 41  # with half a success and half a failure added
    estimate, low, high = share_of_these([10, 10, 10], [40, 40, 40])
    assert estimate == 0.25
    z, n = 1.959964, effective * p * (1 - p) / (p * (1 - p))
    middle, half = (0.25 + z**2 / 2 / n) / (1 + z**2 / n), z / (1 + z**2 / n) * np.sqrt(0.1875 / n + z**2 / 4 / n**2)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_how_models_differ_is_no_noise_of_examples() -> None:
    alike, apart = share_of_these([50, 50], [100, 100]), share_of_these([10, 90], [100, 100])
    assert alike[0] == apart[0] == 0.5
    assert apart[2] - apart[1] < alike[2] - alike[1]
    assert share_of_these([0, 0], [30, 30])[1:] != (0.0, 0.0)


@pytest.mark.parametrize("seeds", [2, 4])
@pytest.mark.parametrize("common", [0.0, 0.3])
def test_it_covers_the_mean_of_these_models(seeds: int, common: float) -> None:
    rng = np.random.default_rng(seeds)
    rates = expit(np.linspace(-1.5, 1.0, seeds))
    limits = np.quantile(rng.normal(size=10**6), rates)
    covered = 0
    for _ in range(2000):
        hard = np.sqrt(common) * rng.normal(size=(60, 1)) + np.sqrt(1 - common) * rng.normal(size=(60, seeds))
        _, low, high = share_of_these((hard < limits).sum(axis=0), np.full(seeds, 60))
        covered += low <= rates.mean() <= high
    assert 0.92 <= covered / 2000 <= 0.98


def test_of_a_typical_model_it_is_students_over_log_odds() -> None:
    k, n = np.array([10, 30, 25, 44, 18]), np.full(5, 60)
    odds = logit((k + 0.5) / 61)
    shared = SHARED_IN_ODDS * np.mean(((k + 0.5) * (60.5 - k) / 61**2 * 60) ** -0.5) ** 2
    half = np.sqrt(student.ppf(0.975, 4) ** 2 * odds.var(ddof=1) / 5 + 1.959964**2 * shared)
    assert share_of_typical(k, n) == pytest.approx(tuple(expit(odds.mean() + np.array([0, -half, half]))))
    assert share_of_typical(k[:4], n[:4]) is None
    assert share_of_typical([0, 0, 1, 20, 30], n) is None


def test_models_without_examples_are_refused() -> None:
    for k, n in (([], []), ([0], [0]), ([1, 2], [3])):
        with pytest.raises(DataError, match="rate over models"):
            share_of_these(k, n)
