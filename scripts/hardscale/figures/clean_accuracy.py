"""Accuracy without an attack: by scale before any defense, and by round of each defense."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, round_axis
from hardscale.figures.frame import Entry, Panels, interval_key, line_key, point_key, varying
from hardscale.figures.series import dodges, draw_intervals, draw_points, shifts, wilson
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import in_style, message_figure, plain

ABOUT = About(place=70, victims="classifiers")

#: Intervals are left out of panels with more points than this: they would hide each other.
_MOST_INTERVALS = 80


@in_style
def draw(runs: pd.DataFrame, fits: pd.DataFrame, settings: FigureSpec) -> Figure:  # noqa: ARG001
    """Every model of the study; see workflow/report/clean_accuracy.rst."""
    rows = data.models(runs)
    start = data.undefended(rows)
    by_round = data.without_lone_start(data.with_round_zero(rows))
    sized = data.panels(start, "task", "family") if len(start) else []
    rounds = data.panels(by_round, "task", "family", "defense") if len(by_round) else []
    if not sized and not rounds:
        return message_figure("No clean accuracy of an undefended model or of a defense has been measured.")
    scales = data.Scales(rows)
    groups = [*sized, *rounds]
    panels = Panels(len(groups), _entries(scales, rows), _columns(len(sized), len(rounds)), _titles(groups))
    limits = _limits(rows)
    xlabels = []
    for ax, ((_, _, *defense), part) in zip(panels.axes, groups, strict=True):
        _accuracy_axis(ax, limits)
        if defense:
            plus_one = round_axis(ax, int(part["round"].max()))
            _draw_rounds(ax, part.assign(x=part["round"] + int(plus_one)), scales, 0.0 if plus_one else 0.3)
            xlabels.append("Adversarial round" + (" + 1" if plus_one else ""))
        else:
            log_axis(ax, part["n_params"], counts=True, most=panels.most_ticks)
            _draw_sizes(ax, part.assign(x=part["n_params"].astype(float)), scales)
            xlabels.append("Model size (parameters)")
    panels.label(xlabels, "Clean accuracy")
    return panels.figure


def _titles(groups: list[tuple[tuple[str, ...], pd.DataFrame]]) -> list[list[str]]:
    several = varying([key for key, _ in groups], 1)
    return [
        [data.task_name(task), plain(family, 16) if several else "", plain(defense[0]) if defense else "undefended"]
        for (task, family, *defense), _ in groups
    ]


def _columns(n_sized: int, n_rounds: int) -> int | None:
    """A column a task where there are as many panels by round as by size."""
    return n_sized if n_sized == n_rounds and n_sized in (2, 3, 4) else None


def _entries(scales: data.Scales, rows: pd.DataFrame) -> list[Entry]:
    entries = [line_key(scales.label(key), scales.color(key), marker=scales.marker(key)) for key in scales.keys]
    entries.append(point_key("each seed"))
    if rows["n_clean_examples"].notna().any():
        entries.append(interval_key("95% interval"))
    return entries


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    n = rows["n_clean_examples"].astype(float)
    p = rows["clean_accuracy"].astype(float)
    return pd.DataFrame({"x": rows["x"], "p": p, "k": (p * n).round(), "n": n, "seed": rows["seed"]})


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """From just below the lowest interval to just above the highest, not beyond 0 and 1."""
    points = _points(rows.assign(x=0.0))
    low, high = wilson(points["k"], points["n"])
    ends = np.concatenate([points["p"].to_numpy(), low, high])
    bottom, top = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = max(0.06 * (top - bottom), 0.005)
    return max(bottom - room, -0.025), min(top + room, 1 + room)


def _accuracy_axis(ax: Axes, limits: tuple[float, float]) -> None:
    ax.set_ylim(*limits)
    ticks = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(*limits)
    ax.yaxis.set_major_locator(FixedLocator([t for t in ticks if limits[0] <= t <= min(limits[1], 1 + 1e-9)]))
    decimals = 2 if limits[1] - limits[0] > 0.04 else 3
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.{decimals}f}".removeprefix("0"))


def _draw_sizes(ax: Axes, rows: pd.DataFrame, scales: data.Scales) -> None:
    """Every seed a point with its interval."""
    seeds = sorted(rows["seed"].unique())
    for key in scales.present(rows):
        points = _points(data.of_scale(rows, key))
        for seed, factor in zip(seeds, dodges(len(seeds), 1.05), strict=True):
            look = scales.look(key, dodge=factor)
            one = points[points["seed"] == seed]
            draw_intervals(ax, one, look)
            draw_points(ax, one["x"] * factor, one["p"], look)


def _draw_rounds(ax: Axes, rows: pd.DataFrame, scales: data.Scales, width: float) -> None:
    """Every seed a point with its interval, a line through the medians."""
    present = scales.present(rows)
    seeds = sorted(rows["seed"].unique())
    for key, shift in zip(present, shifts(len(present), width), strict=True):
        points = _points(data.of_scale(rows, key))
        middle = points.groupby("x")["p"].median()
        ax.plot(middle.index + shift, middle, color=scales.color(key), zorder=3)
        for seed, beside in zip(seeds, shifts(len(seeds), width / (2 * len(present))), strict=True):
            look = scales.look(key, shift=shift + beside)
            one = points[points["seed"] == seed]
            if len(rows) <= _MOST_INTERVALS:
                draw_intervals(ax, one, look)
            draw_points(ax, one["x"] + shift + beside, one["p"], look)
