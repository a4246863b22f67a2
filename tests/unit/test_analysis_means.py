"""The interval of a mean: by Hall's transformation and by how often it covers what it names."""

import numpy as np
import pytest
from scipy.stats import t as student

from hardscale.analysis.intervals import FEWEST_FOR_MEAN, mean_interval
from hardscale.errors import DataError


def test_bounds_solve_halls_equation() -> None:
    x = np.array([0.1, 0.2, 0.2, 0.4, 0.5, 0.9, 1.4, 5.0, 0.3])
    n, mean, s = len(x), x.mean(), x.std(ddof=1)
    g = 1.2 * n / ((n - 1) * (n - 2)) * np.sum(((x - mean) / s) ** 3)
    estimate, low, high = mean_interval(x)
    assert estimate == pytest.approx(mean)
    quantile = student.ppf(0.975, n - 1)

    def transformed(bound: float) -> float:
        t = (mean - bound) / (s / np.sqrt(n))
        return float(t + g * t**2 / 3 / np.sqrt(n) + g**2 * t**3 / 27 / n + g / 6 / np.sqrt(n))

    assert transformed(high) == pytest.approx(-quantile)  # the long side, where the data are skewed to
    assert low == pytest.approx(mean - quantile * s / np.sqrt(n))  # Student's, the wider one on the short side
    assert mean_interval(-x) == pytest.approx((-mean, -high, -low))


def test_symmetric_values_have_students_interval() -> None:
    x = np.arange(-5.0, 6.0)
    half = student.ppf(0.975, 10) * x.std(ddof=1) / np.sqrt(11)
    assert mean_interval(x + 3) == pytest.approx((3, 3 - half, 3 + half))


@pytest.mark.parametrize("n", [8, 16, 50])
@pytest.mark.parametrize(("shape", "mean"), [("normal", 0.0), ("lognormal", np.exp(0.5)), ("exponential", 1.0)])
def test_it_covers_the_mean_of_what_was_drawn(shape: str, mean: float, n: int) -> None:
    draws = getattr(np.random.default_rng(n), shape)(size=(2000, n))
    covered = np.mean([low <= mean <= high for _, low, high in map(mean_interval, draws)])
    assert 0.91 < covered < 0.98  # a standard error of 2000 draws is .006


def test_too_few_or_equal_values_have_no_interval() -> None:
    for values in ([1.0], [0.0, 1.0], np.arange(FEWEST_FOR_MEAN - 1), np.full(20, 0.1)):
        estimate, low, high = mean_interval(values)
        assert estimate == pytest.approx(np.mean(values))
        assert np.isnan([low, high]).all()
    for bad in ([], [1.0, np.nan], [[1.0], [2.0]]):
        with pytest.raises(DataError, match="interval of a mean"):
            mean_interval(bad)
