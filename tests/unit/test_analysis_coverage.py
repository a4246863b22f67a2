"""Intervals cover what they name; the long version of ``tests/long`` measures every case with more draws."""

import pytest

from interval_coverage import Case, measure, quick_cases

DRAWS = 60


@pytest.mark.parametrize("case", quick_cases(), ids=lambda case: case.kind)
def test_intervals_cover_what_they_name(case: Case) -> None:
    found = measure(case, DRAWS)
    assert found["intervals"] == DRAWS
    # Two standard errors of 60 draws below 92 %.
    assert 0.85 <= found["coverage"] <= 1.0 and found["width"] > 0
    assert found["estimand"] == ("models like them" if case.kind in ("size", "typical share") else "these models")
