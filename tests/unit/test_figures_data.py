"""Which rows a figure shows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figures_fixtures import make_runs
from statsmodels.stats.proportion import proportion_confint

from hardscale.analysis.points import at_headline
from hardscale.analysis.summary import summary_table
from hardscale.errors import StudyError
from hardscale.figures import data
from hardscale.figures.about import figure_drawer, figures
from hardscale.figures.asr_vs_parameters import _iterations
from hardscale.figures.offense_defense import compute_to_reach
from hardscale.figures.series import BAND_SEEDS, wilson
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import plain, task_colors


def test_round_zero_is_the_undefended_model_of_the_same_cell() -> None:
    runs = make_runs({"30k": 35_000}, rounds=(0, 1), attacks=["gcg"])
    joined = data.with_round_zero(data.measured(runs))
    assert set(joined["defense"]) == {"adversarial-rounds"}
    start = joined[(joined["round"] == 0) & (joined["task"] == "word_length")]
    none = runs[(runs["defense"] == "none") & (runs["task"] == "word_length")]
    assert start.sort_values("iteration")["asr"].tolist() == none.sort_values("iteration")["asr"].tolist()
    assert (start["defense_flops"] == 0).all()


def test_a_cell_without_a_defense_is_not_joined_to_one() -> None:
    runs = make_runs({"30k": 35_000, "80k": 93_000}, rounds=(0, 1), attacks=["gcg"])
    runs = runs[(runs["scale"] == "30k") | (runs["round"] == 0)]
    assert set(data.with_round_zero(data.measured(runs))["scale"]) == {"30k"}


def test_headline_is_the_named_iteration_else_the_last_shared_one() -> None:
    runs = data.measured(make_runs(rounds=(0,), attacks=["gcg", "random_token"]))
    named = at_headline(runs, {"gcg": 4})
    assert named.groupby("attack")["iteration"].unique().map(list).to_dict() == {"gcg": [4], "random_token": [112]}
    shorter = runs[(runs["scale"] != "900k") | (runs["iteration"] <= 6)]
    last = at_headline(shorter[shorter["attack"] == "gcg"], FigureSpec().headline_iteration)
    assert set(last["iteration"]) == {6}
    assert len(last) == len(shorter[data.CELL].drop_duplicates())


def test_table_and_titles_follow_the_headline_of_each_task() -> None:
    runs = make_runs(rounds=(0,), attacks=["gcg"])
    entries = {"gcg": 4, "word_length/gcg": 2}
    shown = summary_table(runs, entries).groupby("task")["iteration"].unique().map(list).to_dict()
    assert shown == {"password_match": [4], "word_length": [2]}
    rows = at_headline(data.measured(runs), entries)
    assert rows.groupby("task")["iteration"].unique().map(list).to_dict() == shown
    assert _iterations(rows) == "iteration 4; 2 of WordLength"
    assert _iterations(rows.assign(iteration=4)) == "iteration 4"


def test_controls_are_known_by_name_or_by_the_spec() -> None:
    spec, attacks = FigureSpec(), {"gcg", "gcg-control", "blind"}
    assert spec.control_of("gcg-control", attacks) == "gcg"
    assert spec.control_of("gcg-control", {"gcg-control"}) is None
    assert spec.control_of("blind", attacks) is None
    assert FigureSpec(controls={"blind": "gcg"}).control_of("blind", attacks) == "gcg"


def test_crossing_agrees_with_interpolation_of_a_rising_curve() -> None:
    asr, compute = np.array([0.1, 0.3, 0.8]), np.array([5.0, 10.0, 20.0])
    for target in (0.02, 0.1, 0.2, 0.5, 0.8):
        expected = np.interp(target, [0, *asr], [0, *compute])
        assert compute_to_reach(target, asr, compute) == pytest.approx(expected)
    assert compute_to_reach(0.9, asr, compute) == float("inf")
    # The first crossing counts, also of a curve that falls again.
    assert compute_to_reach(0.2, np.array([0.4, 0.0, 0.9]), compute) == pytest.approx(2.5)


def test_wilson_is_known_where_the_counts_are() -> None:
    low, high = wilson(pd.Series([0, 48, np.nan]), pd.Series([96, 96, 96]))
    assert low[1] == pytest.approx(proportion_confint(48, 96, method="wilson")[0])
    assert low[0] == pytest.approx(0, abs=1e-12) and 0.03 < high[0] < 0.05
    assert np.isnan(low[2])


def test_iterations_are_thinned_geometrically_with_both_ends() -> None:
    kept = data.thin(range(1, 129), 8)
    assert kept[0] == 1 and kept[-1] == 128 and len(kept) <= 8
    assert data.thin([3, 1, 2], 8) == [1, 2, 3]


def test_tasks_keep_their_colors_and_never_share_one() -> None:
    assert task_colors(["imdb", "spam"])["imdb"] == task_colors(["imdb", "mine", "yours"])["imdb"]
    assert len(set(task_colors(["imdb", "mine", "yours", "spam"]).values())) == 4
    assert BAND_SEEDS == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b^c", "a_b^c"),
        ("$x$", "$x$"),
        ("_hidden", " _hidden"),
        ("a\r\nb\u2028c\x00d", "a b c\\x00d"),
        ("x" * 99, "x" * 35 + "…"),
    ],
)
def test_data_strings_are_plain_in_labels(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_an_unknown_figure_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(StudyError, match="asr_vs_parameters"):
        figure_drawer("pie")
    assert all(callable(figure_drawer(name)) for name in figures())
