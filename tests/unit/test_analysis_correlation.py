"""Spearman's interval covers for quantities of any shape."""

import numpy as np
import pytest

from hardscale.analysis.loss_correlation import spearman


@pytest.mark.parametrize("n", [6, 8, 16])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95])
def test_the_interval_covers_in_draws_of_skewed_quantities(n: int, rho: float) -> None:
    rng = np.random.default_rng(n)
    truth = 6 / np.pi * np.arcsin(rho / 2)  # of a bivariate normal, hence of any increasing function of each
    hits = 0
    for _ in range(1000):
        x = rng.normal(size=n)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
        found = spearman(np.exp(2 * x), y, n_resamples=1)
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    # 98 %, which at six models it reaches, and two standard errors of a share in 1000.
    assert 925 <= hits <= 992


def test_a_perfect_order_of_few_models_is_not_certain() -> None:
    found = spearman(np.arange(6), np.arange(6) ** 3)
    assert found.low is not None and found.value == 1.0
    assert 0.5 < found.low < 1.0 == found.high
    turned = spearman(np.arange(6), -np.arange(6))
    assert (turned.low, turned.high) == pytest.approx((-1.0, -found.low))
