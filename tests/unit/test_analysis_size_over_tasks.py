"""A slope over sizes of several tasks: the means' line, which covers whether or not tasks move together."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from hardscale.analysis.claims_of_runs import shared_scales, size_over_tasks

SCALES = (36e3, 96e3, 221e3, 836e3)


def _models(rng: np.random.Generator, slope: float, together: float, seeds: tuple[int, int] = (2, 1)) -> pd.DataFrame:
    """Two tasks; ``together`` is the share of a scale's own effect that both have."""
    rows = []
    for n_params in SCALES:
        common = rng.normal(0, 0.4)
        for task, n_seeds in zip("tu", seeds, strict=True):
            own = together * common + np.sqrt(1 - together**2) * rng.normal(0, 0.4)
            for _ in range(n_seeds):
                odds = np.log(10) * slope * (np.log10(n_params) - 5) + own + rng.normal(0, 0.2)
                k = rng.binomial(160, 1 / (1 + np.exp(-odds)))
                rows.append({"task": task, "n_params": n_params, "n_success": k, "n_attacked": 160})
    return pd.DataFrame(rows)


def test_the_slope_is_that_of_least_squares_where_scales_weigh_the_same() -> None:
    k = {36e3: (40, 20), 96e3: (20, 40), 221e3: (30, 10), 836e3: (10, 30)}
    rows = [
        {"task": task, "n_params": n, "n_success": one, "n_attacked": 50}
        for n, both in k.items()
        for task, one in zip("tu", both, strict=True)
    ]
    y = [np.mean([np.log10((one + 0.5) / (50 - one + 0.5)) for one in both]) for both in k.values()]
    theirs = sm.OLS(y, sm.add_constant(np.log10(list(k)))).fit()
    slope, low, high = size_over_tasks(pd.DataFrame(rows))
    assert slope == pytest.approx(theirs.params[1], abs=0.03)
    assert low < slope < high


@pytest.mark.parametrize("together", [0.0, 1.0])
def test_it_covers_whether_or_not_tasks_move_together(together: float) -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(1000):
        _, low, high = size_over_tasks(_models(rng, -0.3, together))
        hits += low <= -0.3 <= high
    assert 920 <= hits <= 980


def test_only_scales_that_all_tasks_have_count() -> None:
    rows = _models(np.random.default_rng(0), 0.0, 0.0)
    fewer = rows[(rows["task"] == "t") | (rows["n_params"] < 500e3)]
    assert sorted(shared_scales(fewer)["n_params"].unique()) == sorted(SCALES)[:3]
    assert shared_scales(rows).equals(rows)
