"""Which rounds are evaluated and trained together, against the published lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardscale.artifacts.rounds_plan import blocks, chosen_rounds, paper_rounds, ramp


@pytest.mark.parametrize(
    ("n_rounds", "expected"),
    [
        (60, [1, 2, 3, 4, 6, 9, 15, 24, 38, 60]),
        (59, [1, 2, 3, 4, 6, 9, 15, 23, 37, 59]),
        (21, [1, 2, 3, 4, 5, 6, 7, 10, 14, 21]),
        (22, [1, 2, 3, 4, 5, 6, 7, 11, 15, 22]),
        (250, [1, 2, 3, 6, 11, 21, 39, 73, 135, 250]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_paper_rounds_are_the_published_lists(n_rounds, expected):
    assert paper_rounds(n_rounds) == expected


@given(st.integers(1, 2_000))
def test_paper_rounds_rise_and_end_at_the_last(n_rounds):
    chosen = paper_rounds(n_rounds)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 1
    assert chosen[-1] == n_rounds


@given(st.integers(1, 300), st.integers(1, 40))
def test_blocks_cover_every_round_once(n_rounds, per_job):
    covered = [number for first, last in blocks(n_rounds, per_job) for number in range(first, last + 1)]
    assert covered == list(range(1, n_rounds + 1))


def test_ramp_is_the_papers():
    assert [ramp(i, 60, 8, 64) for i in (0, 1, 59)] == [8, 8, 64]
    assert [ramp(i, 5, 8, 64) for i in range(5)] == [8, 22, 36, 50, 64]
    assert ramp(0, 1, 8, 64) == 8
    assert ramp(3, 5, 8, None) == 8


def test_chosen_rounds():
    assert chosen_rounds([0, 2, 99], 5) == [2]
    assert chosen_rounds("last", 5) == [5]
    assert chosen_rounds("all", 3) == [1, 2, 3]
    assert chosen_rounds(["paper", 5, 10, 18, 28], 60) == [1, 2, 3, 4, 5, 6, 9, 10, 15, 18, 24, 28, 38, 60]
    assert chosen_rounds(["paper", 5, 10, 18, 28], 5) == [1, 2, 3, 4, 5]
    assert chosen_rounds([2, "last"], 7) == [2, 7]
