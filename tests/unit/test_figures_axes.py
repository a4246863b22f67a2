"""Ticks, labels and limits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardscale.analysis.logodds import log10_odds
from hardscale.figures.axes import count_label, log_axis, log_range, log_ticks, logit_limits, power_label, readable
from hardscale.figures.frame import Panels
from hardscale.figures.style import styled


@given(st.floats(-12, 20), st.floats(0.31, 12), st.integers(2, 5))
def test_log_ticks_are_few_in_range_and_at_least_two(start: float, decades: float, most: int) -> None:
    low, high = 10**start, 10 ** (start + decades)
    ticks = log_ticks(low, high, most)
    assert 2 <= len(ticks) <= most or (most == 2 and len(ticks) == 1)
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e3, 1e6, [1e3, 1e4, 1e5, 1e6]),
        (7e6, 1.2e10, [1e7, 1e8, 1e9, 1e10]),
        (3e4, 9e5, [3e4, 1e5, 3e5]),
        (1.5e4, 1.2e5, [2e4, 5e4, 1e5]),
    ],
)
def test_log_ticks_are_the_numbers_one_would_pick(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(expected)


def test_labels_of_numbers() -> None:
    assert [count_label(n) for n in (500, 35_000, 833_000, 999_900, 7_629_056, 11_586_560_000)] == [
        "500",
        "35k",
        "833k",
        "1M",
        "7.63M",
        "11.6B",
    ]
    assert power_label(1e12) == "$10^{12}$"
    assert power_label(3e-5) == r"$3{\cdot}10^{-5}$"
    assert power_label(0.5) == "0.5"


def test_log_odds_limits_hold_every_finite_rate_and_survive_none() -> None:
    low, high = logit_limits([0.0, 1.0, 0.02, 0.98])
    assert low < float(log10_odds(0.02)) and high > float(log10_odds(0.98))
    low, high = logit_limits([0.0, 1.0])
    assert np.isfinite([low, high]).all() and low < 0 < high


def test_zero_has_a_place_left_of_the_smallest_value() -> None:
    low, high, place = log_range([0, 1e3, 1e6, np.nan], zero=True)
    assert (low, high) == (1e3, 1e6)
    assert place is not None and place < low


def test_labels_that_would_touch_are_left_out() -> None:
    wide, short = [1.5e12, 2e12, 2.5e12], [1e10, 1e11, 1e12]
    assert readable(wide, [power_label(t) for t in wide], room=0.15) == [1.5e12, 2.5e12]
    assert readable(short, [power_label(t) for t in short], room=0.15) == short
    assert readable([], [], room=0.15) == []


def narrow_labels(values: list[float]) -> list[Any]:
    with styled():
        panels = Panels(3, [], titles=[["a"], ["b"], ["c"]])
        log_axis(panels.axes[2], values, zero=0.0 in values, most=panels.most_ticks)
        panels.figure.canvas.draw()
    return [label.get_window_extent() for label in panels.axes[2].get_xticklabels()]


@pytest.mark.parametrize("values", [[0.0, 1.6e12, 1.7e12], [0.0, 2e10, 3e12], [1.1e9, 2.9e9], [0.0, 1e9, 1e14]])
def test_no_two_labels_of_a_narrow_axis_touch(values: list[float]) -> None:
    boxes = narrow_labels(values)
    assert len(boxes) >= 2
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_a_long_part_of_a_title_is_broken_and_its_parentheses_are_not() -> None:
    panels = Panels(3, [], 3, [["gemma 2b", "embedding-undefended (ε = 0.075)"], ["gemma 2b", "GCG"], ["b", "PAIR"]])
    titles = [ax.get_title() for ax in panels.axes]
    assert titles == ["gemma 2b\nembedding-undefended\n(ε = 0.075)", "gemma 2b\nGCG", "b\nPAIR"]
