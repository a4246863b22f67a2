"""Intervals pooled over models in a thousand synthetic studies: how often they cover, and how wide they are."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from pooled_kit import Draws, cases, covered

pytestmark = pytest.mark.long
FAMILY = 13  # about as many as the default study has


@pytest.mark.parametrize(("name", "draws"), list(cases()), ids=[name for name, _ in cases()])
def test_pooled_intervals_cover(name: str, draws: Draws, capsys: pytest.CaptureFixture[str]) -> None:
    these, like = covered(draws, 1000, seed=1)
    corrected = covered(draws, 1000, seed=2, level=1 - 0.05 / FAMILY)[1]
    with capsys.disabled():
        print(
            f"\n| {name} | {these.share:.3f} | {these.width:.3f} | {like.share:.3f} | {like.width:.3f} "
            f"| {corrected.share:.3f} |"
        )
    assert these.share >= 0.92 and like.share >= 0.92 and corrected.share >= 0.985
    # Above, only where models do not differ at all and so the interval of models like them is that of these.
    assert these.share <= 0.98 and (like.share <= 0.98 or not draws.of_cell)
