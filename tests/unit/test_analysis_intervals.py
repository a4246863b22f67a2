"""Intervals and log odds against closed forms, published worked examples, statsmodels and exact enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from hardscale.analysis.intervals import (
    independent_difference,
    paired_difference,
    wilson,
)
from hardscale.analysis.logodds import from_log10_odds, laplace, log10_odds, log10_positive
from hardscale.errors import DataError


def _pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])
    return a.astype(bool), b.astype(bool)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 313)])
def test_wilson_closed_form(k: int, n: int) -> None:
    z, p = 1.959963984540054, k / n
    center = (p + z * z / 2 / n) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert wilson(k, n) == pytest.approx((max(0, center - half), min(1, center + half)), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_newcombe_paired_worked_example() -> None:
    # Armitage and Berry's two culture media: 20 both, 12 and 2 discordant, 16 neither.
    estimate, low, high = paired_difference(*_pairs(20, 12, 2, 16))
    assert (estimate, low, high) == pytest.approx((0.2, 0.0562, 0.3292), abs=1e-4)


@given(st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(lambda c: sum(c) > 0))
def test_paired_difference_properties(cells: list[int]) -> None:
    a, b = _pairs(*cells)
    estimate, low, high = paired_difference(a, b)
    assert estimate == pytest.approx(a.mean() - b.mean())
    assert -1 <= low <= estimate + 1e-12
    assert estimate - 1e-12 <= high <= 1
    assert high > low
    back = paired_difference(b, a)
    assert (back[1], back[2]) == pytest.approx((-high, -low), abs=1e-12)


def test_paired_difference_covers_by_exact_enumeration() -> None:
    n, shares = 14, (0.35, 0.25, 0.1, 0.3)
    covered = 0.0
    for first in itertools.product(range(n + 1), repeat=3):
        if sum(first) <= n:
            cells = (*first, n - sum(first))
            _, low, high = paired_difference(*_pairs(*cells))
            covered += multinomial.pmf(cells, n, shares) * (low <= shares[1] - shares[2] <= high)
    assert 0.93 < covered < 0.99


def test_independent_difference_newcombe_worked_example() -> None:
    # Newcombe (1998), unpaired, case (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339.
    assert independent_difference(56, 70, 48, 80) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize(("k_a", "k_b"), [(0, 0), (10, 10), (0, 10)])
def test_independent_difference_has_width_at_the_ends(k_a: int, k_b: int) -> None:
    estimate, low, high = independent_difference(k_a, 10, k_b, 10)
    assert -1 <= low <= estimate <= high <= 1
    assert high - low > 0.1


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="same examples"):
        paired_difference([True], [True, False])
    with pytest.raises(DataError, match="at least one"):
        independent_difference(0, 0, 1, 2)


def test_log10_odds() -> None:
    assert log10_odds([0.5, 10 / 11, 1 / 101]) == pytest.approx([0, 1, -2])
    assert np.isneginf(log10_odds(0.0))
    assert np.isposinf(log10_odds(1.0))
    assert from_log10_odds(log10_odds([0.02, 0.9])) == pytest.approx([0.02, 0.9])
    assert laplace([0, 1, 0.5], 200) == pytest.approx([1 / 202, 201 / 202, 0.5])
    assert np.array_equal(np.isnan(log10_positive([0, -1, np.inf, np.nan, 10])), [True, True, True, True, False])
