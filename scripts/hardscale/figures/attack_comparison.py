"""Attacks against each other at equal compute on undefended models, a panel a task and scale."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, share_axis
from hardscale.figures.frame import Entry, Panels, band_key, line_key
from hardscale.figures.series import BAND_SEEDS, wilson
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import LINES, attack_colors, in_style, message_figure

ABOUT = About(place=30, victims="classifiers")


@in_style
def draw(runs: pd.DataFrame, fits: pd.DataFrame, settings: FigureSpec) -> Figure:  # noqa: ARG001
    """Undefended models; see workflow/report/attack_comparison.rst."""
    rows = data.undefended(data.measured(runs))
    rows = rows[(rows["iteration"] >= 1) & (rows["attack_flops_per_example"] > 0)]
    if rows.empty:
        return message_figure(
            "No attack on an undefended model has been measured with its compute, so attacks cannot be compared."
        )
    attacks = data.ordered_attacks(rows)
    colors = attack_colors([f"{attack} {position}" for attack, position in attacks])
    looks = {
        pair: (color, LINES[i % len(LINES)])
        for i, (pair, color) in enumerate(zip(attacks, colors.values(), strict=True))
    }
    scales = data.Scales(rows)
    groups = [
        (task, key, data.of_scale(part, key))
        for (task,), part in data.panels(rows, "task")
        for key in scales.present(part)
    ]
    entries = [line_key(data.attack_name(*pair), *look) for pair, look in looks.items()]
    entries += _spread_entries(rows)
    titles = [[data.task_name(task), scales.label(key)] for task, key, _ in groups]
    columns = _columns([key for _, key, _ in groups], [task for task, _, _ in groups])
    panels = Panels(len(groups), entries, columns, titles)
    for ax, (_, _, part) in zip(panels.axes, groups, strict=True):
        log_axis(ax, part["attack_flops_per_example"], most=panels.most_ticks)
        share_axis(ax)
        for pair, (color, line) in looks.items():
            _draw_attack(ax, part[(part["attack"] == pair[0]) & (part["position"] == pair[1])], color, line)
    panels.label(["Attack compute (FLOPs per example)"] * len(groups), "Attack success rate")
    return panels.figure


def _columns(scales: list[tuple[str, str]], tasks: list[str]) -> int | None:
    """A column a scale, or two rows of five a task, where the same scales were measured on every task."""
    n = len(set(scales))
    if len(scales) != n * len(set(tasks)):
        return None
    return n if n <= 5 else 5 if n % 5 == 0 else None


def _spread_entries(rows: pd.DataFrame) -> list[Entry]:
    seeds = rows.groupby(["task", "family", "scale", "attack", "position", "iteration"])["asr"].count()
    entries = [line_key("each seed", width=0.6)] if (seeds > 1).any() else []
    if (seeds == 1).any():
        entries.append(band_key("95% interval (one seed)"))
    if (seeds >= BAND_SEEDS).any() and not (seeds == 1).any():
        entries.append(band_key("min–max of seeds"))
    return entries


def _draw_attack(ax: Axes, rows: pd.DataFrame, color: str, line: object) -> None:
    """Thick: median over seeds at each iteration. Thin: the seeds, or the interval of a single one."""
    if rows.empty:
        return
    curves = [curve.sort_values("iteration") for _, curve in rows.groupby(data.CURVE, sort=True)]
    middle = rows.groupby("iteration")[["attack_flops_per_example", "asr"]].median()
    ax.plot(middle["attack_flops_per_example"], middle["asr"], color=color, linestyle=line, linewidth=1.6, zorder=4)
    if len(curves) == 1:
        low, high = wilson(curves[0]["n_success"], curves[0]["n_attacked"])
        ax.fill_between(curves[0]["attack_flops_per_example"], low, high, color=color, alpha=0.15, linewidth=0)
        return
    for curve in curves:
        ax.plot(curve["attack_flops_per_example"], curve["asr"], color=color, linewidth=0.5, alpha=0.7, zorder=3)
    if len(curves) >= BAND_SEEDS:
        ends = rows.groupby("iteration")["asr"].agg(["min", "max"])
        x = middle["attack_flops_per_example"]
        ax.fill_between(x, ends["min"], ends["max"], color=color, alpha=0.12, linewidth=0)
