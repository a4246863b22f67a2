"""The test of two rates: its p-value by counting, its false alarms by trial, what it finds."""

from math import comb

import numpy as np
import pytest

from hardscale.ops.outcome import DIFFERS, WITHIN
from hardscale.ops.rates import Rates, compare_rates, p_value


def counted(k, n, l, m):  # noqa: E741
    """P(a table of these margins is no likelier than this one), by counting all of them."""
    total = k + l
    ways = [comb(n, i) * comb(m, total - i) for i in range(max(0, total - m), min(n, total) + 1)]
    here = comb(n, k) * comb(m, l)
    return sum(way for way in ways if way <= here) / comb(n + m, total)


@pytest.mark.parametrize(
    ("expected", "found"), [((3, 10), (7, 10)), ((0, 24), (6, 22)), ((5, 5), (5, 5)), ((1, 8), (30, 40))]
)
def test_p_value_is_that_of_counting_all_tables(expected, found):
    assert p_value(expected, found) == pytest.approx(counted(*expected, *found), rel=1e-9)


def test_without_trials_nothing_is_said():
    (finding,) = compare_rates([Rates("x", (0, 0), (3, 3))])
    assert (finding.status, finding.max_difference) == (WITHIN, None)


def test_false_alarms_of_a_whole_run_stay_under_the_stated_rate():
    draw = np.random.default_rng(3)
    rate, alarms, runs = 0.1, 0, 300
    for _ in range(runs):
        truth = draw.uniform(0.05, 0.95, size=4)
        rates = [Rates("r", *((int(draw.binomial(60, p)), 60) for _ in range(2))) for p in truth]
        alarms += any(finding.status == DIFFERS for finding in compare_rates(rates, rate))
    assert 0 < alarms <= rate * runs


def test_the_level_is_shared_by_all_rates_of_a_run():
    one = Rates("moved", (20, 100), (38, 100))
    assert 0.01 / 20 < p_value(*(one.expected, one.found)) < 0.01
    (alone,) = compare_rates([one])
    among = compare_rates([one, *[Rates("still", (50, 100), (50, 100))] * 19])
    assert alone.status == DIFFERS
    assert {finding.status for finding in among} == {WITHIN}


def test_a_real_change_is_found_among_many():
    findings = compare_rates([Rates("moved", (100, 200), (50, 200)), *[Rates("still", (80, 200), (83, 200))] * 19])
    assert [finding.status for finding in findings] == [DIFFERS, *[WITHIN] * 19]
    assert findings[0].max_difference == pytest.approx(0.25)
    assert findings[0].expected == "100/200 = 0.500"
