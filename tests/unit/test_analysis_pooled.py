"""Differences pooled over models: against independent oracles, and how often their intervals cover."""

import numpy as np
import pytest
import statsmodels.api as sm
from pooled_kit import Draws, covered
from scipy import stats
from statsmodels.stats.sandwich_covariance import cov_cluster, cov_cluster_2groups

from hardscale.analysis.pooled import ModelDifference, pool
from hardscale.analysis.verdict import AT_LEVEL, Statement, corrected
from hardscale.errors import DataError


def _models(rng: np.random.Generator, cells: int, n: int, shared: float = 0.0) -> list[ModelDifference]:
    """One model a cell, all of one task; ``shared`` is the spread of what an example adds to every model."""
    common = rng.normal(0, shared, n)
    draws = [common + rng.normal(c / 10, 1, n) for c in range(cells)]
    return [ModelDifference(c, "t", np.arange(n), np.clip(np.round(d), -1, 1)) for c, d in enumerate(draws)]


def test_one_model_has_the_interval_of_bonett_and_price() -> None:
    values = np.array([1.0] * 12 + [-1.0] * 3 + [0.0] * 35)
    found = pool([ModelDifference("c", "t", np.arange(50), values)])
    p, q, n = 13 / 52, 4 / 52, 52
    assert found.of_examples == pytest.approx((p + q - (p - q) ** 2) / (n - 1))
    assert found.models_like_them() is None
    still = pool([ModelDifference("c", "t", np.arange(50), np.zeros(50))])
    low, high = still.these_models()
    assert -0.1 < low < 0 < high < 0.1


def test_cells_of_different_tasks_have_students_interval() -> None:
    rng = np.random.default_rng(0)
    models = [ModelDifference(c, str(c), np.arange(900), np.sign(rng.normal(c / 5, 1, 900))) for c in range(6)]
    found = pool(models)
    means = [one.values.mean() for one in models]
    theirs = stats.ttest_1samp(means, 0).confidence_interval()
    assert found.models_like_them() == pytest.approx((theirs.low, theirs.high))
    # Seeds of one cell are one draw of it.
    twice = pool([*models, models[0]])
    assert (twice.estimate, twice.n_cells, twice.n_models) == (pytest.approx(np.mean(means)), 6, 7)
    assert twice.models_like_them() == pytest.approx((theirs.low, theirs.high))


def test_examples_that_all_models_met_are_clusters() -> None:
    models = _models(np.random.default_rng(1), 4, 400, shared=0.7)
    found = pool(models)
    y, cells = np.concatenate([m.values for m in models]), np.repeat(np.arange(4), 400)
    fit = sm.OLS(y - np.repeat([m.values.mean() for m in models], 400) + y.mean(), np.ones_like(y)).fit()
    ids = np.tile(np.arange(400), 4)
    assert found.of_examples == pytest.approx(cov_cluster(fit, ids, use_correction=False).item(), rel=0.03)
    of_mean = sm.OLS(y, np.ones_like(y)).fit()
    both, by_cell, _ = cov_cluster_2groups(of_mean, cells, ids, use_correction=False)
    assert found.of_cells == pytest.approx(by_cell.item() * 4 / 3, rel=0.03)
    assert found.shared == pytest.approx((both - by_cell).item(), rel=0.2)
    alone = pool([ModelDifference(m.cell, str(m.cell), m.example_ids, m.values) for m in models])
    assert alone.shared == 0 and alone.of_examples < 0.7 * found.of_examples


def test_examples_are_matched_by_id_in_any_order_and_number() -> None:
    models = _models(np.random.default_rng(2), 3, 50, shared=1.0)
    turned = [ModelDifference(m.cell, m.task, m.example_ids[::-1], m.values[::-1]) for m in models]
    assert pool(turned).of_examples == pytest.approx(pool(models).of_examples)
    fewer = ModelDifference(0, "t", models[0].example_ids[10:], models[0].values[10:])
    assert pool([fewer, *models[1:]]).n == 140
    with pytest.raises(DataError, match="at least one example"):
        pool([ModelDifference(0, "t", np.array([], dtype=int), np.array([]))])


@pytest.mark.parametrize("draws", [Draws(), Draws(cells=4, seeds=(2,) * 4, tasks=1, n=60)], ids=["nano", "small"])
def test_intervals_cover_in_small_simulations(draws: Draws) -> None:
    # 250 draws: three standard errors are four points. A thousand, more cases and widths: tests/long.
    these, like = covered(draws, 250, seed=5)
    assert these.share >= 0.91 and 0.91 <= like.share <= 0.99


def test_a_family_is_corrected_as_a_whole_and_nothing_else_is() -> None:
    def at(level: float) -> tuple[float, float]:
        half = float(stats.norm.ppf(0.5 + level / 2))
        return -half, half

    rows = corrected([{"a": 1}, {"a": 2, AT_LEVEL: at}, {"a": 3, AT_LEVEL: at}])
    assert rows[0] == {"a": 1} and [row["family_size"] for row in rows[1:]] == [2, 2]
    assert rows[1]["family_high"] == pytest.approx(stats.norm.ppf(1 - 0.05 / 4))
    rng = np.random.default_rng(0)
    both = np.abs(rng.normal(size=(20_000, 2))).max(axis=1) <= rows[1]["family_high"]
    assert both.mean() == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize(
    ("above", "against", "low", "high", "expected"),
    [
        (True, 0.0, 0.1, 0.2, "supported"),
        (True, 0.0, -0.2, -0.1, "refuted"),
        (True, 0.0, 0.0, 0.2, "undecided"),
        (False, 0.0, -0.2, -0.1, "supported"),
        (False, 0.0, 0.1, 0.2, "refuted"),
        (True, -0.02, -0.01, 0.2, "supported"),
        (True, -0.02, -0.03, 0.2, "undecided"),
        (True, 0.0, float("nan"), float("nan"), "undecided"),
        (True, 0.0, None, None, "undecided"),
    ],
)
def test_outcomes(above: bool, against: float, low: float | None, high: float | None, expected: str) -> None:
    assert Statement("x", above, against).outcome(low, high) == expected
