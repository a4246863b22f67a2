"""Intervals cover what they name; the long version of ``tests/long`` measures every case with more draws."""

import pytest

from interval_coverage import Case, measure, quick_cases

DRAWS = 120


@pytest.mark.parametrize("case", quick_cases(), ids=lambda case: case.kind)
def test_intervals_cover_what_they_name(case: Case) -> None:
    found = measure(case, DRAWS)
    assert found["intervals"] == DRAWS
    # Two standard errors below 92 % and above 98 %, about: .05 and .025.
    assert 0.87 <= found["coverage"] <= 1.0 and found["width"] > 0
    assert found["estimand"] == ("models like them" if case.kind in ("size", "typical share") else "these models")
