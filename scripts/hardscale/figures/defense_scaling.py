"""Log-odds of attack success against defense compute, a line a scale, a panel a task, attack and defense."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from hardscale.analysis.points import at_headline
from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, logit_axis, logit_limits, zero_places
from hardscale.figures.frame import Panels, line_key, point_key
from hardscale.figures.series import as_points, draw_seeds, spread_keys
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import in_style, message_figure

ABOUT = About(place=50, victims="classifiers")


@in_style
def draw(runs: pd.DataFrame, fits: pd.DataFrame, settings: FigureSpec) -> Figure:  # noqa: ARG001
    """Headline iteration, compute is the seeds' mean; see workflow/report/defense_scaling.rst."""
    rows = at_headline(data.with_round_zero(data.measured(runs)), settings.headline_iteration)
    rows = data.without_lone_start(rows[rows["defense_flops"].notna()])
    if rows.empty:
        return message_figure(
            "No attack on a defended model with known training compute has been measured: there is no defense scaling."
        )
    rows = rows.assign(x=data.mean_defense_flops(rows))
    scales = data.Scales(rows)
    groups = data.panels(rows, "task", "attack", "position", "defense", "family")
    keys = [key for key, _ in groups]
    counts = [part.groupby(["scale", "round"])["asr"].count() for _, part in groups]
    entries = [line_key(scales.label(key), scales.color(key), marker=scales.marker(key)) for key in scales.keys]
    entries += spread_keys(counts)
    if ((rows["asr"] <= 0) | (rows["asr"] >= 1)).any():
        entries.append(point_key("none or all succeed", hollow=True))
    panels = Panels(len(groups), entries, titles=data.defended_titles(keys))
    limits = logit_limits(rows["asr"])
    for ax, (_, part) in zip(panels.axes, groups, strict=True):
        zero = log_axis(ax, part["x"], zero=bool((part["x"] == 0).any()), most=panels.most_ticks)
        logit_axis(ax, limits)
        present = scales.present(part)
        for key, beside in zip(present, zero_places(zero, part["x"], len(present)), strict=True):
            points = as_points(data.of_scale(part, key), "x")
            points["x"] = points["x"].where(points["x"] > 0, beside)
            draw_seeds(ax, points, scales.look(key), limits=limits)
    panels.label(["Defense compute (FLOPs)"] * len(groups), "Attack success rate (log-odds)")
    return panels.figure
