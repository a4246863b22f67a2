"""Attack success rate by round of adversarial training, a line a scale, a panel a task, attack and defense."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from hardscale.analysis.points import at_headline
from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import round_axis, share_axis
from hardscale.figures.frame import Panels, line_key
from hardscale.figures.series import as_points, draw_seeds, shifts, spread_keys
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import in_style, message_figure

ABOUT = About(place=40, victims="classifiers")


@in_style
def draw(runs: pd.DataFrame, fits: pd.DataFrame, settings: FigureSpec) -> Figure:  # noqa: ARG001
    """Headline iteration, round 0 is the undefended model; see workflow/report/asr_by_round.rst."""
    rows = at_headline(data.with_round_zero(data.measured(runs)), settings.headline_iteration)
    rows = data.without_lone_start(rows)
    if rows.empty:
        return message_figure("No attack on a defended model has been measured, so there are no rounds to show.")
    scales = data.Scales(rows)
    groups = data.panels(rows, "task", "attack", "position", "defense", "family")
    keys = [key for key, _ in groups]
    counts = [part.groupby(["scale", "round"])["asr"].count() for _, part in groups]
    entries = [line_key(scales.label(key), scales.color(key), marker=scales.marker(key)) for key in scales.keys]
    panels = Panels(len(groups), [*entries, *spread_keys(counts)], titles=data.defended_titles(keys))
    xlabels = []
    for ax, (_, part) in zip(panels.axes, groups, strict=True):
        plus_one = round_axis(ax, int(part["round"].max()))
        share_axis(ax)
        part = part.assign(x=part["round"] + int(plus_one))
        present = scales.present(part)
        for key, shift in zip(present, shifts(len(present), 0.0 if plus_one else 0.24), strict=True):
            draw_seeds(ax, as_points(data.of_scale(part, key), "x"), scales.look(key, shift=shift))
        xlabels.append("Adversarial round" + (" + 1" if plus_one else ""))
    panels.label(xlabels, "Attack success rate")
    return panels.figure
