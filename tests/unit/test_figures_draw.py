"""Every figure: the same bytes twice, nothing overlapping, no crash on poor or hostile data."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from figures_fixtures import CELLS, PYTHIA, make_fits, make_runs, table
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from hardscale.artifacts.schemas import FITS, RUNS
from hardscale.artifacts.tables import write_table
from hardscale.figures.about import figure_drawer, figures
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import save, styled

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
SPEC = FigureSpec(target_asr=[0.25], scratch_families=["nano"])
OF_CLASSIFIERS = [name for name, about in figures().items() if about.victims == "classifiers"]


@pytest.fixture(scope="module")
def nano() -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = make_runs()
    return runs, make_fits(runs)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def drawn_texts(figure: Figure, tmp_path: Path) -> list[str]:
    """What matplotlib draws of a figure as text: formulas as their characters, everything else as it stands."""
    with styled(), mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(tmp_path / "text.svg", format="svg")
    return ["".join(text.itertext()) for text in ElementTree.parse(tmp_path / "text.svg").iter(f"{SVG}text")]


def assert_readable(figure: Figure) -> None:
    """No label, title, legend entry or tick label lies over another one or outside the figure."""
    with styled():
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        shown = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
        for axes in figure.axes:
            assert shown_labels(axes.xaxis), f"{axes.get_title()}: no x tick"
            shown += [axes.title, axes.xaxis.label, *shown_labels(axes.xaxis), *shown_labels(axes.yaxis)]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown if text.get_text()]
        page = figure.bbox
    for text, box in boxes:
        assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1, f"{text!r} is cut off"
        assert page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1, f"{text!r} is cut off"
    for (text, box), (other, other_box) in itertools.combinations(boxes, 2):
        assert not box.overlaps(other_box), f"{text!r} overlaps {other!r}"


def shown_labels(axis: Axis) -> list[mpl.text.Text]:
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]


@pytest.mark.parametrize("name", OF_CLASSIFIERS)
def test_same_tables_same_bytes(name: str, nano: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    for copy, shuffled in (("a", False), ("b", True)):
        runs = nano[0].sample(frac=1, random_state=3) if shuffled else nano[0]
        figure = figure_drawer(name)(runs, nano[1], SPEC)
        pdf = tmp_path / f"{copy}.pdf" if name == "asr_vs_parameters" else None
        save(figure, tmp_path / f"{copy}.png", tmp_path / f"{copy}.svg", pdf)
        # A user's own matplotlib settings change nothing.
        mpl.rcParams["lines.linewidth"] = 7
    mpl.rcdefaults()
    written = sorted(tmp_path.glob("a.*"))
    assert len(written) >= 2
    for path in written:
        assert path.read_bytes() == path.with_stem("b").read_bytes(), path.suffix
    assert_readable(figure)


@pytest.mark.parametrize("name", figures())
def test_no_rows_give_a_figure_that_says_so(name: str, tmp_path: Path) -> None:
    figure = figure_drawer(name)(table([], RUNS), table([], FITS), SPEC)
    save(figure, tmp_path / "f.png")
    assert any("measured" in text for text in texts(figure))
    assert_message_fits(figure)


def assert_message_fits(figure: Figure) -> None:
    with styled():
        figure.draw_without_rendering()
        box = figure.texts[0].get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    assert box.width < figure.bbox.width and box.height < figure.bbox.height


@pytest.mark.parametrize("name", ["asr_by_round", "defense_scaling", "offense_defense"])
def test_a_study_without_a_defense_says_what_is_missing(name: str, nano: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    runs = nano[0][nano[0]["defense"] == "none"]
    assert any("defended model" in text for text in texts(figure_drawer(name)(runs, nano[1], SPEC)))


@pytest.mark.parametrize("name", OF_CLASSIFIERS)
@pytest.mark.parametrize("level", [-9.0, 9.0])
def test_saturated_attacks_are_drawn(name: str, level: float) -> None:
    runs = make_runs({"30k": 35_000, "80k": 93_000}, cells=CELLS[:1], rounds=(0, 1), level=level)
    assert_readable(figure_drawer(name)(runs, make_fits(runs), FigureSpec()))


@pytest.mark.parametrize("name", OF_CLASSIFIERS)
def test_single_rows_and_unknown_numbers_are_drawn(name: str) -> None:
    runs = make_runs({"30k": 35_000}, cells=CELLS[:1], rounds=(0, 1), attacks=["gcg"])
    one = runs[(runs["iteration"] == 1) & (runs["round"] == 0)]
    unknown = ["asr", "n_success", "attack_flops_per_example", "defense_flops", "pretrain_flops", "clean_accuracy"]
    for frame in (one, runs[runs["iteration"] == 0], runs.assign(pretrain_flops=np.nan), runs.assign(n_attacked=0)):
        assert_readable_or_message(figure_drawer(name)(frame, table([], FITS), FigureSpec()))
    for column in unknown:
        assert_readable_or_message(figure_drawer(name)(runs.assign(**{column: np.nan}), table([], FITS), FigureSpec()))


def assert_readable_or_message(figure: Figure) -> None:
    if figure.axes:
        assert_readable(figure)
    else:
        assert_message_fits(figure)


@pytest.mark.parametrize("name", OF_CLASSIFIERS)
def test_hostile_names_are_drawn_as_they_are(name: str, tmp_path: Path) -> None:
    runs = make_runs({"$\\frac{1}{$": 35_000}, cells=CELLS[:1], rounds=(0, 1), attacks=["gcg", "random_token"])
    runs["task"] = "<script>$10^{-3}$</script>"
    runs.loc[runs["defense"] != "none", "defense"] = "_--><b>$"
    runs.loc[runs["attack"] == "gcg", "attack"] = "$\\invalid$ a_b^{c}\x00$"
    if name == "joint_defense_compute":
        runs = pd.concat([runs, runs[runs["round"] > 0].assign(defense="</b>$", defense_kind="c_at")])
    figure = figure_drawer(name)(runs, make_fits(runs), SPEC)
    save(figure, tmp_path / "f.png", tmp_path / "f.svg")
    assert "<script" not in (tmp_path / "f.svg").read_text(encoding="utf-8")
    drawn = drawn_texts(figure, tmp_path)
    assert any("<script>$10^{-3}$</script>" in text for text in drawn), drawn
    if name == "attack_comparison":
        assert any("$\\invalid$ a_b^{c}\\x00$" in text for text in drawn), drawn
        assert any("$\\frac{1}{$" in text for text in drawn), drawn


def test_powers_of_ten_on_axes_are_formulas(nano: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    figure = figure_drawer("attack_comparison")(*nano, SPEC)
    drawn = drawn_texts(figure, tmp_path)
    assert any(re.fullmatch(r"\s*1\s*0\s*7\s*", text) for text in drawn), drawn
    assert not any("$" in text for text in drawn)


@pytest.mark.parametrize("name", ["attack_comparison", "asr_by_round", "clean_accuracy"])
def test_ten_scales_and_many_rounds_stay_readable(name: str) -> None:
    runs = make_runs(PYTHIA, cells=[("imdb", 0)], rounds=(0, 1, 4, 15, 60), attacks=["gcg"], family="pythia")
    assert_readable(figure_drawer(name)(runs, make_fits(runs), FigureSpec()))


def test_two_families_have_their_own_palettes_and_axis_labels() -> None:
    nano = make_runs({"30k": 35_000}, cells=CELLS[:1], rounds=(0,), attacks=["gcg"])
    qwen = make_runs({"0.5b": 494_034_560}, cells=CELLS[:1], rounds=(0,), attacks=["gcg"], family="qwen2.5")
    runs = pd.concat([nano, qwen], ignore_index=True)
    figure = figure_drawer("attack_scaling")(runs, make_fits(runs), SPEC)
    labels = [" ".join(axes.get_xlabel().split()) for axes in figure.axes]
    assert labels == ["Attack compute / (pretraining + finetuning)", "Attack compute / pretraining compute"]
    assert_readable(figure)


def test_bands_from_three_seeds_up_and_intervals_for_one() -> None:
    for n_seeds, band, interval in ((1, False, True), (2, False, False), (3, True, False)):
        cells = [("imdb", seed) for seed in range(n_seeds)]
        runs = make_runs({"14m": 7_629_056, "1b": 908_763_136}, cells=cells, rounds=(0,), attacks=["gcg"])
        shown = texts(figure_drawer("asr_vs_parameters")(runs, make_fits(runs), FigureSpec()))
        assert any("min–max" in text for text in shown) == band
        assert any("95%" in text for text in shown) == interval


def test_entry_draws_from_files_and_refuses_in_one_line(tmp_path: Path) -> None:
    runs = make_runs({"30k": 35_000}, cells=CELLS[:1], rounds=(0,), attacks=["gcg"])
    write_table(tmp_path / "runs.parquet", pa.Table.from_pandas(runs, preserve_index=False).select(RUNS.names), RUNS)
    write_table(tmp_path / "fits.parquet", [], FITS)
    command = [sys.executable, str(ROOT / "scripts" / "figure.py"), "--runs", "runs.parquet", "--fits", "fits.parquet"]
    command += ["--spec", SPEC.model_dump_json(), "--png", "f.png", "--svg", "f.svg", "--log", "f.log", "--name"]
    done = subprocess.run([*command, "asr_vs_parameters"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "f.svg").stat().st_size > 5_000
    refused = subprocess.run([*command, "pie"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1 and "error: figure 'pie': not one of" in refused.stderr
