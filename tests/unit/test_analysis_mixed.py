"""The penalized mixed logit model against closed forms, statsmodels, numerical integration and brute force."""

import itertools

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import multivariate_normal, norm

from hardscale.analysis.mixed import Counts, firth, fit_mixed, jeffreys, marginal
from hardscale.analysis.variances import (
    BETWEEN_ROUNDS,
    BETWEEN_SEEDS,
    cluster_variance,
    examples_variance,
    scatter_half_width,
)

SLOPE = np.array([0.0, 1.0])


def test_firth_of_two_groups_adds_a_half_to_each_cell() -> None:
    x = np.array([[1.0, 0.0], [1.0, 1.0]])
    k, n = np.array([0.0, 20.0]), np.array([15.0, 20.0])
    expected = logit((k + 0.5) / (n + 1))
    assert firth(x, k, n) == pytest.approx([expected[0], expected[1] - expected[0]], abs=1e-7)


def test_firth_is_the_penalized_maximum() -> None:
    x = np.column_stack([np.ones(4), [-1.0, 0.0, 0.5, 2.0]])
    k, n = np.array([0.0, 0.0, 1.0, 3.0]), np.full(4, 3.0)

    def value(beta: np.ndarray) -> float:
        pi = expit(x @ beta)
        information = x.T @ np.diag(n * pi * (1 - pi)) @ x
        return float(np.sum(k * np.log(pi) + (n - k) * np.log1p(-pi)) + 0.5 * np.log(np.linalg.det(information)))

    best = firth(x, k, n)
    for step in np.vstack([np.eye(2), -np.eye(2), [[1, 1], [1, -1]]]) * 1e-3:
        assert value(best + step) < value(best)


def test_one_model_of_many_examples_is_maximum_likelihood() -> None:
    x, n = np.linspace(-2, 1, 8), np.full(8, 1e6)
    k = np.round(n * expit(0.3 + 1.7 * x + 0.1 * np.cos(5 * x)))
    model = fit_mixed(x[:, None], k, n, np.zeros(8))
    glm = sm.GLM(np.column_stack([k, n - k]), sm.add_constant(x), family=sm.families.Binomial()).fit()
    assert model is not None
    assert model.sigma == 0
    assert model.beta == pytest.approx(glm.params, abs=1e-5)
    assert np.sqrt(np.diag(model.bread)) == pytest.approx(glm.bse, rel=1e-4)


@pytest.mark.parametrize("k", [[0, 0, 0, 0], [9, 9, 9, 9], [0, 0, 9, 9], [9, 9, 0, 0]])
@pytest.mark.parametrize("groups", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 0, 1]])
def test_saturated_counts_give_finite_slopes_and_widths(k: list[int], groups: list[int]) -> None:
    model = fit_mixed(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(k), np.full(4, 9), np.array(groups))
    assert model is not None
    assert np.isfinite(model.beta).all()
    assert np.abs(model.beta[1]) < 20
    assert 0 < SLOPE @ model.bread @ SLOPE < 1e3
    assert 0 < examples_variance(model, SLOPE, np.zeros(4), np.array(groups)) < 1e3


def test_constant_or_collinear_columns_have_no_fit() -> None:
    ones = np.ones(5)
    assert fit_mixed(ones[:, None], ones, 2 * ones, np.arange(5)) is None
    x = np.arange(5.0)
    assert fit_mixed(np.column_stack([x, 2 * x + 1]), ones, 2 * ones, np.arange(5)) is None


def test_units_of_the_columns_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    x, groups = rng.normal(size=12), np.repeat(np.arange(4), 3)
    n = np.full(12, 40.0)
    k = rng.binomial(40, expit(x)).astype(float)
    here, there = (fit_mixed(z[:, None], k, n, groups) for z in (x, 1e3 + 1e-2 * x))
    assert here is not None
    assert there is not None
    assert there.beta[1] * 1e-2 == pytest.approx(here.beta[1], rel=1e-6)
    assert there.bread[1, 1] * 1e-4 == pytest.approx(here.bread[1, 1], rel=1e-5)
    assert cluster_variance(there, SLOPE, groups) * 1e-4 == pytest.approx(
        cluster_variance(here, SLOPE, groups), rel=1e-5
    )
    assert there.influence(SLOPE) * 1e-2 == pytest.approx(here.influence(SLOPE), rel=1e-5)


def test_marginal_likelihood_is_the_integral_and_its_gradient() -> None:
    rng = np.random.default_rng(4)
    group = np.array([0, 0, 0, 1, 1, 2])
    x = np.column_stack([np.ones(6), rng.normal(size=6)])
    k, n = np.array([0.0, 3, 9, 1, 2, 0]), np.full(6, 10.0)
    beta, sigma = np.array([-0.7, 0.9]), 1.3
    counts = Counts(x, k, n, group)
    expected = 0.0
    for g in range(3):
        rows = group == g

        def density(z: float, rows: np.ndarray = rows) -> float:
            eta = x[rows] @ beta + sigma * z
            return float(np.exp(k[rows] @ eta - n[rows] @ np.logaddexp(0, eta) - z * z / 2) / np.sqrt(2 * np.pi))

        expected += np.log(quad(density, -9, 9, epsabs=1e-14, limit=200)[0])
    value, gradient = marginal(beta, sigma, counts)
    assert value == pytest.approx(expected, abs=1e-4)
    step = 1e-5
    theta = np.append(beta, sigma)
    for i in range(3):
        up, down = theta.copy(), theta.copy()
        up[i], down[i] = up[i] + step, down[i] - step
        slope = (marginal(up[:-1], up[-1], counts)[0] - marginal(down[:-1], down[-1], counts)[0]) / (2 * step)
        assert gradient[i] == pytest.approx(slope, abs=2e-3)


def test_modes_hold_at_any_spread() -> None:
    # Newton from 0 with the whole count far in the tail once cycled between two points.
    counts = Counts(np.ones((1, 1)), np.array([188.0]), np.array([500.0]), np.array([0]))
    smooth = [marginal(np.array([b]), 3.0, counts)[0] for b in np.linspace(-8, 0, 33)]
    assert np.abs(np.diff(smooth, 2)).max() < 0.1


def test_random_intercepts_recover_a_conditional_slope() -> None:
    rng = np.random.default_rng(7)
    x = np.repeat(np.linspace(-3, 3, 10), 12)
    u = rng.normal(scale=1.5, size=120)
    k = rng.binomial(300, expit(-1 + 1.5 * x + u)).astype(float)
    model = fit_mixed(x[:, None], k, np.full(120, 300.0), np.arange(120))
    assert model is not None
    assert model.beta[1] == pytest.approx(1.5, abs=0.25)
    assert model.sigma == pytest.approx(1.5, abs=0.3)
    pooled = sm.GLM(np.column_stack([k, 300 - k]), sm.add_constant(x), family=sm.families.Binomial()).fit()
    assert abs(pooled.params[1]) < model.beta[1] - 0.2  # what the random intercepts are there for


def test_examples_variance_is_the_double_sum() -> None:
    x, k = np.linspace(0, 2, 8), np.array([1.0, 5, 4, 12, 18, 17, 6, 9])
    seeds, models = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 3])
    model = fit_mixed(x[:, None], k, np.full(8, 20.0), models)
    assert model is not None
    pi = model.pi

    def expected(contrast: np.ndarray) -> float:
        a, apart, shared = model.influence(contrast), 0.0, 0.0
        for i, j in itertools.product(range(8), repeat=2):
            c = 0.7 if models[i] == models[j] else BETWEEN_ROUNDS if seeds[i] == seeds[j] else BETWEEN_SEEDS
            both = multivariate_normal([0, 0], [[1, c], [c, 1]]).cdf(norm.ppf(pi[[i, j]])) if i != j else pi[i]
            term = 20 * a[i] * a[j] * (both - pi[i] * pi[j])
            apart, shared = (apart + term, shared) if models[i] == models[j] else (apart, shared + term)
        return float(apart + max(0.0, shared))

    level = np.array([1.0, 1.0])  # at the middle x: there errors add up, nothing cancels
    for contrast in (SLOPE, level):
        found = examples_variance(model, contrast, seeds, models, 0.7)
        assert found == pytest.approx(expected(contrast), rel=0.01)
    assert examples_variance(model, level, seeds, models, 0.7) > examples_variance(model, level, models, models, 0.7)
    a = model.influence(SLOPE)
    alone = np.sum(20 * a**2 * pi * (1 - pi))
    assert examples_variance(model, SLOPE, seeds, models, 0.0) == pytest.approx(alone, rel=1e-9)


def test_examples_variance_covers_an_attack_whose_successes_stay() -> None:
    rng = np.random.default_rng(11)
    x, n = np.linspace(-2, 1, 10), 100
    pi = expit(0.5 + 1.2 * x)
    covered, naive = 0, 0
    for _ in range(300):
        k = (rng.random((n, 1)) < pi).sum(axis=0).astype(float)  # one uniform an example: broken once, broken for good
        model = fit_mixed(x[:, None], k, np.full(10, float(n)), np.zeros(10))
        assert model is not None
        error = abs(model.beta[1] - 1.2)
        covered += error < 1.96 * np.sqrt(examples_variance(model, SLOPE, np.zeros(10), np.zeros(10), 1.0))
        naive += error < 1.96 * np.sqrt(model.bread[1, 1])
    assert 0.92 * 300 <= covered <= 0.98 * 300
    assert naive < covered


def test_cluster_variance_is_the_jackknife_of_the_fit() -> None:
    rng = np.random.default_rng(3)
    seeds = np.repeat(np.arange(5), 8)
    x = np.tile(np.linspace(-1, 1, 8), 5) * np.repeat([0.5, 1, 1, 1, 2], 8)  # the last seed tells most
    k = np.round(1e5 * expit(0.2 + x * (1 + 0.1 * rng.normal(size=5)[seeds]) + 0.02 * rng.normal(size=40)))
    model = fit_mixed(x[:, None], k, np.full(40, 1e5), np.zeros(40))
    assert model is not None
    slopes = []
    for seed in range(5):
        rows = seeds != seed
        part = fit_mixed(x[rows, None], k[rows], np.full(32, 1e5), np.zeros(32))
        assert part is not None
        slopes.append(part.beta[1])
    jackknife = 4 / 5 * np.sum((np.array(slopes) - model.beta[1]) ** 2)
    assert cluster_variance(model, SLOPE, seeds) == pytest.approx(jackknife, rel=0.05)


def test_cluster_variance_of_equal_clusters_is_the_sandwich_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    seeds, x, n = np.repeat(np.arange(4), 6), np.tile(np.linspace(-1, 1, 6), 4), np.full(24, 1e5)
    k = np.round(n * expit(0.2 + x + 0.05 * rng.normal(size=24)))
    model = fit_mixed(x[:, None], k, n, np.zeros(24))
    assert model is not None
    glm = sm.GLM(np.column_stack([k, n - k]), sm.add_constant(x), family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": seeds, "use_correction": False}
    )
    assert cluster_variance(model, SLOPE, seeds) == pytest.approx(glm.bse[1] ** 2 * 4 / 3, rel=0.01)


def test_jeffreys_penalty_is_worth_one_trial_a_coefficient() -> None:
    x = np.column_stack([np.ones(5), np.arange(5.0)])
    beta = np.array([-30.0, 0.0])  # pi = 0: every leverage counts in full
    _, _, penalty = jeffreys(beta, x, np.full(5, 10.0))
    assert penalty.sum() == pytest.approx(1.0, rel=1e-6)  # two coefficients, half a success each


def test_scatter_of_scales_is_least_squares_of_their_means() -> None:
    rng = np.random.default_rng(8)
    sizes = np.repeat(np.arange(6.0), 3)
    eta = 0.2 - 0.4 * sizes / 3 + np.repeat(rng.normal(scale=0.6, size=6), 3) + rng.normal(scale=0.4, size=18)
    k = np.round(1e6 * expit(eta))
    model = fit_mixed(sizes[:, None], k, np.full(18, 1e6), np.arange(18))
    assert model is not None
    means = logit(k / 1e6).reshape(6, 3).mean(axis=1)
    ols = sm.OLS(means, sm.add_constant(np.arange(6.0))).fit()
    assert model.beta == pytest.approx(ols.params, abs=6e-3)  # the penalty: half a success a coefficient
    half = scatter_half_width(model, SLOPE, sizes)
    assert half == pytest.approx((ols.conf_int()[1][1] - ols.conf_int()[1][0]) / 2, rel=3e-2)


def test_scales_whose_counts_are_stuck_keep_the_models_width() -> None:
    sizes = np.repeat(np.arange(5.0), 2)
    model = fit_mixed(sizes[:, None], np.zeros(10), np.full(10, 50.0), np.arange(10))
    assert model is not None
    assert scatter_half_width(model, SLOPE, sizes, saturated=True) == pytest.approx(
        1.959964 * np.sqrt(model.bread[1, 1]), rel=1e-5
    )
