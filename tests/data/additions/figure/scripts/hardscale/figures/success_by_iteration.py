"""Attack success rate of undefended models by iteration of the attack, a line a scale, a panel a task and attack."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import share_axis
from hardscale.figures.frame import Panels, line_key
from hardscale.figures.series import as_points, draw_seeds
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import in_style, message_figure

ABOUT = About(place=25, victims="classifiers")


@in_style
def draw(runs: pd.DataFrame, fits: pd.DataFrame, settings: FigureSpec) -> Figure:  # noqa: ARG001
    """Every iteration that was scored; see workflow/report/success_by_iteration.rst."""
    rows = data.undefended(data.measured(runs))
    if rows.empty:
        return message_figure("No attack on an undefended model has been measured, so there are no iterations.")
    scales = data.Scales(rows)
    groups = data.panels(rows, "task", "attack", "position")
    titles = [[data.task_name(task), data.attack_name(attack, position)] for (task, attack, position), _ in groups]
    entries = [line_key(scales.label(key), scales.color(key), marker=scales.marker(key)) for key in scales.keys]
    panels = Panels(len(groups), entries, titles=titles)
    for ax, (_, part) in zip(panels.axes, groups, strict=True):
        share_axis(ax)
        for key in scales.present(part):
            draw_seeds(ax, as_points(data.of_scale(part, key), "iteration"), scales.look(key))
    panels.label(["Iteration"] * len(groups), "Attack success rate")
    return panels.figure
