"""Refusal and attack success of chat models by size: every drawn value is the table's, nothing else is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chat_figures_fixtures import make_chat_runs, make_utility, some
from figures_fixtures import table
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from statsmodels.stats.proportion import proportion_confint
from test_figures_draw import assert_message_fits, assert_readable, texts

from hardscale.artifacts.schemas import FITS, RUNS
from hardscale.evaluation.chat_tables import UTILITIES
from hardscale.figures.about import figure_drawer
from hardscale.figures.chat import over_seeds, spread_entries
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import save

DRAW = figure_drawer("chat_asr_by_size")
NONE, SPEC = table([], FITS), FigureSpec()
SIZES = {"0.5b": 494_032_768, "1.5b": 1_543_714_304, "7b": 7_615_616_512, "14b": 14_770_033_664}
JUDGES = ("rubric-qwen2.5-instruct-14b", "rules-prefix", "rules-anywhere")
#: Requests complied with of 313: by judge, before the attack and after it, at each size.
COMPLIED = {
    ("rubric-qwen2.5-instruct-14b", 0): (139, 50, 20, 5),
    ("rubric-qwen2.5-instruct-14b", 128): (194, 167, 105, 34),
    ("rules-prefix", 0): (120, 61, 31, 0),
    ("rules-prefix", 128): (313, 250, 160, 60),
    ("rules-anywhere", 0): (100, 44, 12, 3),
    ("rules-anywhere", 128): (230, 190, 130, 45),
}
N = 313


def rows_of(attack: str, kind: str, n: int = N, **changes: object) -> list[dict[str, object]]:
    cell = {"study": "qwen", "task": "strongreject", "family": "qwen2.5-instruct", "seed": 0, "defense": "none"}
    cell |= {"defense_kind": "none", "round": 0, "position": "suffix", "success_rule": "judge"}
    rows = []
    for i, (scale, n_params) in enumerate(SIZES.items()):
        of_size = {**cell, "scale": scale, "n_params": n_params, "attack": attack, "attack_kind": kind}
        for iteration in (0, 128):
            for judge in (*JUDGES, "target-likelihood", "copyright"):
                n_judged = 7 if judge == "copyright" else n
                k = round(COMPLIED[judge, iteration][i] * n / N) if judge in JUDGES else 1
                counts = {"n_examples": n, "n_attacked": n_judged, "n_success": k, "asr": k / n_judged}
                rows.append({**of_size, "iteration": iteration, "judge": judge, **counts, **changes})
    return rows


def runs_of(*rows: list[dict[str, object]]) -> pd.DataFrame:
    return table([row for part in rows for row in part], RUNS)


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return runs_of(rows_of("gcg", "gcg"))


def lines(ax: Axes) -> dict[str, list[float]]:
    """Color -> heights of the line through the sizes."""
    found = [line for line in ax.lines if line.get_linestyle() not in ("None", "") and len(line.get_xdata()) > 1]
    return {to_hex(line.get_color()): list(line.get_ydata()) for line in found}


def intervals(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    found = [c for c in ax.collections if hasattr(c, "get_segments") and len(c.get_segments())]
    return {to_hex(c.get_color()[0]): [tuple(s[:, 1]) for s in c.get_segments()] for c in found}


def judge_colors(figure: Figure) -> list[str]:
    """Colors of the first entries of the legend: those of the judges, in their order."""
    return [to_hex(handle.get_color()) for handle in figure.legends[0].legend_handles[: len(JUDGES)]]


def test_lines_and_intervals_are_those_of_the_table(runs: pd.DataFrame) -> None:
    figure = DRAW(runs, NONE, SPEC, {})
    before, after = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["Refused · before the attack", "Attack success · GCG"]
    colors = judge_colors(figure)
    assert len(set(colors)) == 3 and set(lines(before)) == set(lines(after)) == set(colors)
    for judge, color in zip(JUDGES, colors, strict=True):
        refused = [N - k for k in COMPLIED[judge, 0]]
        for ax, counts in ((before, refused), (after, COMPLIED[judge, 128])):
            assert lines(ax)[color] == pytest.approx([k / N for k in counts])
            wilson = np.transpose(proportion_confint(np.array(counts), N, method="wilson"))
            assert np.ravel(intervals(ax)[color]) == pytest.approx(np.ravel(wilson), abs=1e-12)


def test_lines_stand_at_the_sizes_in_their_order(runs: pd.DataFrame) -> None:
    for ax in DRAW(runs.sample(frac=1, random_state=0), NONE, SPEC, {}).axes:
        for line in (one for one in ax.lines if len(one.get_xdata()) == 4):
            assert np.asarray(line.get_xdata()) == pytest.approx(list(SIZES.values()), rel=0.08)


def test_judges_are_named_the_first_as_the_one_that_decides(runs: pd.DataFrame) -> None:
    figure = DRAW(runs, NONE, SPEC, {})
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [f"{JUDGES[0]} (decides)", *JUDGES[1:], "95% interval"]
    alone = DRAW(runs[runs["judge"] == JUDGES[1]], NONE, SPEC, {})
    assert JUDGES[1] in texts(alone) and not any("decides" in text for text in texts(alone))


def test_several_attacks_tasks_and_families_are_panels(tmp_path: Path) -> None:
    attacks = [rows_of("gcg", "gcg"), rows_of("ball", "embedding", eps=0.05), rows_of("direct", "direct")]
    figure = DRAW(runs_of(*attacks), NONE, SPEC, {})
    assert len(figure.axes) == 4
    assert "Attack success · ball (ε = 0.05)" in [ax.get_title().replace("\n", " · ") for ax in figure.axes]
    assert_readable(figure)
    more = [rows_of("gcg", "gcg", family="other"), rows_of("gcg", "gcg", task="behaviors")]
    several = DRAW(runs_of(*attacks, *more), NONE, SPEC, {})
    assert len(several.axes) == 8
    assert_readable(several)
    for copy, frame in (("a", runs_of(*attacks)), ("b", runs_of(*attacks))):
        save(DRAW(frame, NONE, SPEC, {}), tmp_path / f"{copy}.png", tmp_path / f"{copy}.svg")
    for path in tmp_path.glob("a.*"):
        assert path.read_bytes() == path.with_stem("b").read_bytes()


def test_refusal_is_of_the_attack_with_the_most_requests() -> None:
    figure = DRAW(runs_of(rows_of("autodan", "autodan", n=100), rows_of("gcg", "gcg")), NONE, SPEC, {})
    [color, *_] = judge_colors(figure)
    assert lines(figure.axes[0])[color] == pytest.approx([1 - k / N for k in COMPLIED[JUDGES[0], 0]])


def test_seeds_are_averaged_and_their_range_is_shown() -> None:
    second = [{**row, "n_success": 0, "asr": 0.0, "seed": 1} for row in rows_of("gcg", "gcg")]
    figure = DRAW(runs_of(rows_of("gcg", "gcg"), second), NONE, SPEC, {})
    [color, *_] = judge_colors(figure)
    rates = [k / N for k in COMPLIED[JUDGES[0], 128]]
    assert lines(figure.axes[1])[color] == pytest.approx([rate / 2 for rate in rates])
    assert texts(figure)[-1] == "min–max of seeds" and "95% interval" not in texts(figure)
    [ends] = [c.get_segments() for c in figure.axes[1].collections if to_hex(c.get_color()[0]) == color]
    assert [end for segment in ends for end in segment[:, 1]] == pytest.approx([y for rate in rates for y in (0, rate)])


def test_a_lone_seed_has_the_interval_of_its_rate() -> None:
    found = over_seeds(pd.DataFrame({"model": ["a", "b", "b"], "k": [3, 2, 6], "n": [10, 10, 10]}), ["model"])
    low, high = proportion_confint(3, 10, method="wilson")
    assert found.set_index("model").loc["a", ["asr", "low", "high", "n", "n_seeds"]].tolist() == [0.3, low, high, 10, 1]
    assert found.set_index("model").loc["b", ["asr", "low", "high", "n", "n_seeds"]].tolist() == [0.4, 0.2, 0.6, 10, 2]
    entries = {n: [label for _, label in spread_entries(pd.Series(n))] for n in ((1,), (2,), (1, 2))}
    assert entries == {
        (1,): ["95% interval"],
        (2,): ["min–max of seeds"],
        (1, 2): ["95% interval (one seed)", "min–max of seeds"],
    }


def test_defended_models_and_single_sizes_are_left_out(runs: pd.DataFrame) -> None:
    defended = runs.assign(defense="c-advul", defense_kind="c_advul", round=1, n_success=0, asr=0.0)
    single = runs[runs["scale"] == "7b"].assign(attack="pair", attack_kind="pair")
    alone = runs[runs["scale"] == "7b"].assign(family="other")
    figure, plain = DRAW(pd.concat([runs, defended, single, alone]), NONE, SPEC, {}), DRAW(runs, NONE, SPEC, {})
    assert [lines(ax) for ax in figure.axes] == [lines(ax) for ax in plain.axes]
    for few in (defended, alone, runs.iloc[:0], make_chat_runs(some(["none"]))):
        message = DRAW(few, NONE, SPEC, {})
        assert not message.axes and any("two sizes" in text for text in texts(message))
        assert_message_fits(message)


def test_a_collapsed_model_is_open_and_named_so(runs: pd.DataFrame) -> None:
    cells = [{"task": "strongreject", "family": "qwen2.5-instruct", "scale": scale} for scale in SIZES]
    utility = pd.concat([make_utility(some(["none"]), **cell) for cell in cells]).reindex(columns=UTILITIES.names)
    utility["collapsed"] = utility["scale"] == "0.5b"
    figure = DRAW(runs, NONE, SPEC, {"utility": utility})
    assert "collapsed" in texts(figure) and "collapsed" not in texts(DRAW(runs, NONE, SPEC, {}))
    for ax in figure.axes:
        opened = [line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
        assert len(opened) == 3
        assert all(line.get_xdata() == pytest.approx([SIZES["0.5b"]], rel=0.08) for line in opened)
    assert_readable(figure)


def test_hostile_names_of_judges_are_shown_as_they_are(runs: pd.DataFrame, tmp_path: Path) -> None:
    figure = DRAW(runs.replace({"judge": {JUDGES[1]: "_<script>$x^2_$"}}), NONE, SPEC, {})
    save(figure, tmp_path / "f.png", tmp_path / "f.svg")
    assert "<script" not in (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert any("<script>$x^2_$" in text for text in texts(figure))
