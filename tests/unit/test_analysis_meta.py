"""The line over scales: least squares where variances are equal, and an optimizer's maximum where they are not."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import norm

from hardscale.analysis.meta import meta_line


def test_equal_variances_are_ordinary_least_squares() -> None:
    x, y = np.array([6.0, 7.0, 8.5, 9.0]), np.array([1.0, 0.2, -0.4, -0.2])
    ols = sm.OLS(y, sm.add_constant(x)).fit()
    for v in (1e-4, 1.0):  # more scatter than the examples make, and less
        line = meta_line(x, y, np.full(4, v))
        assert (line.intercept, line.slope) == pytest.approx(tuple(ols.params))
        assert line.slope - line.half == pytest.approx(ols.conf_int()[1][0])
        assert line.tau2 == pytest.approx(max(0.0, ols.scale - v))


def test_unequal_variances_are_weighted_and_scatter_meets_its_degrees() -> None:
    x, y = np.array([6.0, 7.0, 8.0, 9.0, 10.0]), np.array([1.0, 0.2, -0.9, 0.3, -1.0])
    v = np.array([0.01, 0.02, 0.4, 0.05, 0.01])
    line = meta_line(x, y, v)
    assert line.tau2 > 0
    wls = sm.WLS(y, sm.add_constant(x), weights=1 / (v + line.tau2)).fit()
    assert (line.intercept, line.slope) == pytest.approx(tuple(wls.params))
    assert wls.scale == pytest.approx(1.0, abs=1e-6)  # Paule and Mandel's equation
    assert line.half == pytest.approx(wls.conf_int()[1][1] - wls.params[1])


def test_two_scales_have_the_variance_of_their_examples() -> None:
    line = meta_line(np.array([6.0, 8.0]), np.array([1.0, 0.0]), np.array([0.09, 0.16]))
    assert line.slope == pytest.approx(-0.5)
    assert line.half == pytest.approx(norm.ppf(0.975) * 0.5 / 2)


def test_counts_that_are_stuck_keep_the_width_of_their_examples() -> None:
    line = meta_line(np.array([6.0, 7.0, 8.0]), np.full(3, -2.0), np.full(3, 0.5))
    assert (line.slope, line.half) == pytest.approx((0.0, norm.ppf(0.975) * np.sqrt(0.5 / 2)))


@pytest.mark.parametrize("k", [3, 5, 10])
@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_it_covers_the_line_scales_are_drawn_about(k: int, tau: float) -> None:
    rng = np.random.default_rng(k)
    x, covered = np.arange(float(k)), 0
    for _ in range(600):
        v = rng.uniform(0.005, 0.1, k)
        y = 1 - 0.3 * x + rng.normal(scale=np.sqrt(tau**2 + v))
        line = meta_line(x, y, v)
        covered += abs(line.slope + 0.3) < line.half
    assert 0.92 <= covered / 600 <= 0.98
