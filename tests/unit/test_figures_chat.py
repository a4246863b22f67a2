"""The figures of chat models and of both kinds of defense: drawn, readable, stable, honest about what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from chat_figures_fixtures import (
    BROKEN,
    DEFENSES,
    make_chat_runs,
    make_cost,
    make_joint_cost,
    make_joint_runs,
    make_losses,
    make_tables,
    mixed_runs,
    some,
)
from figures_fixtures import make_fits, make_runs, table
from test_figures_draw import assert_message_fits, assert_readable, assert_readable_or_message, texts

from hardscale.artifacts.schemas import FITS, RUNS
from hardscale.artifacts.tables import write_table
from hardscale.figures import chat, data
from hardscale.figures.ablations import _labels, _series
from hardscale.figures.about import figure_drawer, figures
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import save

ROOT = Path(__file__).parents[2]
NONE = table([], FITS)
SPEC = FigureSpec()
CHAT_FIGURES = [name for name, about in figures().items() if about.victims == "chat"]


@pytest.mark.parametrize("name", CHAT_FIGURES)
def test_same_tables_same_bytes_and_readable(name: str, tmp_path: Path) -> None:
    runs, tables = make_chat_runs(), make_tables()
    for copy in "ab":
        figure = figure_drawer(name)(runs, NONE, SPEC, tables)
        save(figure, tmp_path / f"{copy}.png", tmp_path / f"{copy}.svg")
        # The order of the tables' rows says nothing; that of runs tells which judge is the first.
        tables = {key: rows.sample(frac=1, random_state=3) for key, rows in tables.items()}
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert_readable(figure)


@pytest.mark.parametrize("name", CHAT_FIGURES)
def test_rows_of_classifiers_change_nothing(name: str, tmp_path: Path) -> None:
    tables = make_tables()
    for copy, runs in (("a", make_chat_runs()), ("b", mixed_runs())):
        save(figure_drawer(name)(runs, NONE, SPEC, tables), tmp_path / f"{copy}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", [name for name, about in figures().items() if about.victims == "classifiers"])
def test_rows_of_chat_models_change_no_figure_of_classifiers(name: str, tmp_path: Path) -> None:
    alone = make_runs({"30k": 35_000}, rounds=(0, 1))
    fits = make_fits(alone)
    for copy, runs in (("a", alone), ("b", pd.concat([make_chat_runs(), alone], ignore_index=True))):
        save(figure_drawer(name)(runs, fits, SPEC), tmp_path / f"{copy}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    message = figure_drawer(name)(make_chat_runs(), NONE, SPEC)
    assert any("measured" in text for text in texts(message))


@pytest.mark.parametrize("name", CHAT_FIGURES)
@pytest.mark.parametrize(
    ("names", "attacks"), [(["none"], ["gcg"]), (["none", "ipo-0.02", "ipo-0.05"], ["gcg", "embedding"])]
)
def test_poor_studies_are_drawn_or_say_what_is_missing(name: str, names: list[str], attacks: list[str]) -> None:
    defenses = some(names)
    runs, tables = make_chat_runs(defenses, attacks, n=3), make_tables(defenses)
    tables["losses"] = tables["losses"][tables["losses"]["attack"].isin(attacks)]
    assert_readable_or_message(figure_drawer(name)(runs, NONE, SPEC, tables))
    assert_readable_or_message(figure_drawer(name)(runs, NONE, SPEC))
    assert_message_fits(figure_drawer(name)(runs.iloc[:0], NONE, SPEC, {}))


@pytest.mark.parametrize("name", CHAT_FIGURES)
def test_unknown_numbers_and_several_models_are_drawn(name: str) -> None:
    defenses = some(["none", "r2d2", "c-advul", "ipo-0.02", "ipo-0.05"])
    small, large = {"scale": "135m"}, {"scale": "360m", "n_params": 361_821_120}
    runs = pd.concat([make_chat_runs(defenses, **cell) for cell in (small, large)], ignore_index=True)
    parts = [make_tables(defenses, **cell) for cell in (small, large)]
    tables = {key: pd.concat([part[key] for part in parts], ignore_index=True) for key in parts[0]}
    assert_readable(figure_drawer(name)(runs, NONE, SPEC, tables))
    runs.loc[runs["defense"] == "r2d2", "defense_flops"] = np.nan
    tables["utility"][["value", "ci_low", "ci_high", "relative"]] = np.nan
    tables["utility"]["collapsed"] = None
    tables["losses"][["ci_low", "ci_high", "se"]] = np.nan
    assert_readable_or_message(figure_drawer(name)(runs, NONE, SPEC, tables))


@pytest.mark.parametrize("name", CHAT_FIGURES)
def test_hostile_names_are_shown_as_they_are(name: str, tmp_path: Path) -> None:
    hostile = {"c-advul": "<script>$x^2_$", "ipo-0.02": "_--><b>$"}
    defenses = [(hostile.get(item[0], item[0]), *item[1:]) for item in DEFENSES]
    figure = figure_drawer(name)(make_chat_runs(defenses), NONE, SPEC, make_tables(defenses))
    save(figure, tmp_path / "f.svg", tmp_path / "f.png")
    if name not in ("ablations", "chat_asr_by_size"):  # they name settings, and judges
        assert any("<script>$x^2_$" in text for text in texts(figure))


def test_a_collapsed_model_is_hatched_or_hollow_and_named_so() -> None:
    for name in ("robustness_bars", "loss_correlation", "chat_defense_compute"):
        shown = texts(figure_drawer(name)(make_chat_runs(), NONE, SPEC, make_tables()))
        assert f"{BROKEN} (collapsed)" in shown and "ipo-0.05" in shown
    figure = figure_drawer("robustness_bars")(make_chat_runs(), NONE, SPEC, make_tables())
    hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == 13, "one in every group of bars"


def test_bars_are_of_the_first_judge() -> None:
    runs = make_chat_runs(some(["none"]), ["gcg"])
    gcg = runs[(runs["iteration"] == 20) & (runs["judge"] == "rules-prefix")]["asr"].item()
    (ax,) = figure_drawer("robustness_bars")(runs, NONE, SPEC, {}).axes
    assert [round(patch.get_height(), 6) for patch in ax.patches][-1] == round(100 * gcg, 6)


def test_bars_are_as_wide_as_the_defenses_of_their_own_model_allow() -> None:
    many = make_chat_runs(some(["none", "r2d2", "c-advul", "ipo-0.02", "ipo-0.05"]), ["gcg"], scale="135m")
    few = make_chat_runs(some(["none"]), ["gcg"], scale="360m", n_params=361_821_120)
    figure = figure_drawer("robustness_bars")(pd.concat([many, few], ignore_index=True), NONE, SPEC, {})
    narrow, wide = ([patch.get_width() for patch in ax.patches] for ax in figure.axes)
    assert min(wide) == pytest.approx(5 * max(narrow))


def test_the_correlation_is_that_of_scipy() -> None:
    from scipy.stats import spearmanr

    losses = make_losses()
    last = losses[losses["iteration"] == 20].pivot_table(index="defense", columns="attack", values="loss")
    rho = spearmanr(last["gcg"], last["bounded"]).statistic
    figure = figure_drawer("loss_correlation")(make_chat_runs(), NONE, SPEC, {"losses": losses})
    assert any(f"Spearman ρ = {rho:.2f} [" in text for text in texts(figure))


def test_both_kinds_of_defense_of_classifiers_in_one_figure(tmp_path: Path) -> None:
    runs = make_joint_runs()
    draw = figure_drawer("joint_defense_compute")
    figure = draw(runs, NONE, SPEC)
    assert_readable(figure)
    assert len(figure.axes) == 2 and "continuous" in texts(figure)
    lonely = runs[runs["defense_kind"] == "adversarial_rounds"].assign(attack="other")
    assert len(draw(pd.concat([runs, lonely]), NONE, SPEC).axes) == 2, "an attack on one kind compares nothing"
    exact = draw(runs, NONE, SPEC, {"cost": make_joint_cost(runs)})
    assert_readable(exact)
    assert len(exact.axes) == 4 and any("counted exactly" in text for text in texts(exact))
    one_kind = make_joint_cost(runs).assign(
        defense_flops_exact=lambda rows: rows["defense_flops_exact"].where(rows["defense"] == "c-at")
    )
    assert len(draw(runs, NONE, SPEC, {"cost": one_kind}).axes) == 2, "an exact count of one kind compares nothing"


def test_entry_reads_further_tables(tmp_path: Path) -> None:
    runs = pa.Table.from_pandas(make_chat_runs(), preserve_index=False).select(RUNS.names)
    write_table(tmp_path / "runs.parquet", runs, RUNS)
    write_table(tmp_path / "fits.parquet", [], FITS)
    make_tables()["losses"].to_parquet(tmp_path / "losses.parquet")
    command = [sys.executable, str(ROOT / "scripts" / "figure.py"), "--name", "embedding_losses"]
    command += ["--runs", "runs.parquet", "--fits", "fits.parquet", "--tables", "losses.parquet"]
    command += ["--spec", "{}", "--png", "f.png", "--svg", "f.svg", "--log", "f.log"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.png").stat().st_size > 20_000


def test_attacks_of_chat_models_have_their_names() -> None:
    assert [data.attack_name(name) for name in ("autodan", "pair", "my-own")] == ["AutoDAN", "PAIR", "my-own"]


def test_the_radii_of_several_models_are_all_said() -> None:
    rows = pd.DataFrame({"attack": "embedding", "attack_kind": "embedding", "eps": [0.1, 0.00125, 0.05]})
    assert chat.attack_label(rows) == "Embedding (ε = 0.00125–0.1)"
    assert chat.attack_label(rows.iloc[:1]) == "Embedding (ε = 0.1)"
    assert chat.attack_label(rows.assign(eps=None)) == "Embedding (ε = ∞)"
    assert chat.attack_label(rows.assign(attack="gcg", attack_kind="gcg")) == "GCG"
    # Every figure of such a study says them.
    runs, tables = make_chat_runs(), make_tables()
    for frame in (runs, tables["losses"]):
        frame.loc[(frame["attack"] == "bounded") & (frame["defense"] == "ipo-0.2"), "eps"] = 0.2
    for name in ("robustness_bars", "loss_correlation", "chat_defense_compute", "embedding_losses"):
        shown = " ".join(" ".join(texts(figure_drawer(name)(runs, NONE, SPEC, tables))).split())
        assert "(ε = 0.05–0.2)" in shown.replace(" –", "–"), name


def test_long_names_of_attacks_stand_side_by_side(tmp_path: Path) -> None:
    runs = make_chat_runs()
    longer = {"bounded": "embedding-undefended", "embedding": "embedding-free", "prefill": "x" * 40, "pair": "a-b-c-d"}
    runs["attack"] = runs["attack"].replace(longer)
    runs.loc[(runs["attack"] == "embedding-undefended") & (runs["defense"] == "none"), "eps"] = 0.00125
    figure = figure_drawer("robustness_bars")(runs, NONE, SPEC, make_tables())
    assert_readable(figure)
    assert {"embedding-\nfree\n(ε = ∞)", "a-b-c-d"} <= set(texts(figure))


def test_compute_is_compared_where_there_is_some() -> None:
    defenses = some(["none", "r2d2", "ipo-0.05"])
    mine = make_chat_runs(defenses, ["gcg", "pair"])
    mine = mine[(mine["attack"] != "pair") | (mine["defense"] == "none")]
    others = make_chat_runs(some(["none", "r2d2"]), ["gcg"], scale="360m").assign(defense_flops=np.nan)
    figure = figure_drawer("chat_defense_compute")(pd.concat([mine, others], ignore_index=True), NONE, SPEC, {})
    assert_readable(figure)
    assert [axes.get_title() for axes in figure.axes] == ["smollm2 135m · GCG", "smollm2 360m · GCG"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["unknown"]


def test_benchmarks_and_mt_bench_have_bars_of_their_own() -> None:
    tables = make_tables()
    rows = tables["utility"]
    like = rows[rows["metric"] == "harmless_answered"]
    values = {"mmlu": 0.4, "arc_easy": 0.6, "arc_challenge": 0.3, "mt_bench": 6.5, "mt_bench_first_turn": 7.0}
    values |= {"mt_bench_second_turn": 6.0, "mt_bench_unparsed": 0.0}
    more = [
        like.assign(metric=metric, value=value, ci_low=0.9 * value, ci_high=1.1 * value)
        for metric, value in values.items()
    ]
    tables["utility"] = pd.concat([rows, *more], ignore_index=True)
    figure = figure_drawer("robustness_bars")(make_chat_runs(), NONE, SPEC, tables)
    assert_readable(figure)
    written = texts(figure)
    assert {"MMLU\n(harness)", "ARC-E", "ARC-C", "MT-Bench\n×10"} <= set(written)
    assert not any("turn" in text or "unparsed" in text for text in written)
    heights = {round(patch.get_height(), 6) for patch in figure.axes[0].patches if hasattr(patch, "get_height")}
    assert {40.0, 60.0, 30.0, 65.0} <= heights


def test_an_ablation_joins_trainings_that_differ_in_nothing_else() -> None:
    cost = make_cost()
    cost = cost[cost["defense_kind"] == "c_advipo"].assign(variant="a")
    joined = _series(cost, "eps")
    assert len(joined) == 1 and len(joined[0]) > 2
    for i in range(len(cost)):
        apart = cost.assign(variant=["b" if j == i else "a" for j in range(len(cost))])
        assert all(len(set(part["variant"])) == 1 for part in _series(apart, "eps"))


def test_series_of_an_ablation_that_differ_in_further_settings_alone_have_labels_of_their_own() -> None:
    cost = make_cost()
    cost = cost[cost["defense_kind"] == "c_advipo"].assign(variant="a")
    slow = cost.assign(variant="b", defense=cost["defense"] + "-slow")
    both = [("eps", part) for part in _series(pd.concat([cost, slow], ignore_index=True), "eps")]
    (label,) = _labels([("eps", part) for part in _series(cost, "eps")])
    found = _labels(both)
    assert len(both) == 2 and len(set(found)) == 2
    assert all(name.startswith(f"{label}: ") for name in found)
    assert "-slow" in found[1]
    assert _labels([("eps", both[0][1]), ("beta", both[1][1])])[0] == label


def test_trainings_that_eps_had_no_part_in_are_marked() -> None:
    """Two radii of which neither was reached are one and the same training."""
    tables = make_tables()
    cost = tables["cost"]
    mine = (cost["defense_kind"] == "c_advipo") & (cost["eps"] > 0)
    plain_texts = texts(figure_drawer("ablations")(make_chat_runs(), NONE, SPEC, tables))
    tables["cost"] = cost.assign(eps_unused=mine)
    figure = figure_drawer("ablations")(make_chat_runs(), NONE, SPEC, tables)
    marked = {
        round(float(x), 6)
        for ax in figure.axes
        for line in ax.get_lines()
        if line.get_marker() == "x"
        for x in line.get_xdata()
    }
    assert marked == {round(float(eps), 6) for eps in _series(cost, "eps")[0]["eps"] if eps > 0} and len(marked) > 1
    assert "ε never reached: no effect" in texts(figure) and "ε never reached: no effect" not in plain_texts
    # Training without an attack has no ball, and beta is another matter.
    tables["cost"] = cost.assign(eps_unused=cost["eps"] == 0)
    assert "ε never reached: no effect" not in texts(figure_drawer("ablations")(make_chat_runs(), NONE, SPEC, tables))
