"""Attack success rate of undefended models against their number of parameters, a line a task, a panel an attack."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from hardscale.analysis.points import at_headline
from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, share_axis
from hardscale.figures.frame import Panels, line_key, varying
from hardscale.figures.series import Look, as_points, dodges, draw_seeds, spread_keys
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import LINES, MARKERS, in_style, message_figure, plain, task_colors

ABOUT = About(place=10, victims="classifiers")


@in_style
def draw(runs: pd.DataFrame, fits: pd.DataFrame, settings: FigureSpec) -> Figure:  # noqa: ARG001
    """Median over seeds at the headline iteration; see workflow/report/asr_vs_parameters.rst."""
    rows = at_headline(data.undefended(data.measured(runs)), settings.headline_iteration)
    if rows.empty:
        return message_figure("No attack on an undefended model has been measured, so there is no attack success rate.")
    tasks = data.ordered_tasks(rows)
    colors = task_colors(tasks)
    looks = {
        task: Look(colors[task], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)], dodge=factor)
        for i, (task, factor) in enumerate(zip(tasks, dodges(len(tasks)), strict=True))
    }
    groups = data.panels(rows, "attack", "position", "family")
    keys = [key for key, _ in groups]
    entries = [line_key(data.task_name(task), look.color, look.line, look.marker) for task, look in looks.items()]
    counts = [part.groupby(["task", "n_params"])["asr"].count() for _, part in groups]
    titles = [
        [plain(family, 16) if varying(keys, 2) else "", data.attack_name(attack, position), _iterations(part)]
        for (attack, position, family), part in groups
    ]
    panels = Panels(len(groups), [*entries, *spread_keys(counts)], titles=titles)
    for ax, (_, part) in zip(panels.axes, groups, strict=True):
        log_axis(ax, part["n_params"], counts=True, most=panels.most_ticks)
        share_axis(ax)
        for task in tasks:
            draw_seeds(ax, as_points(part[part["task"] == task], "n_params"), looks[task])
    panels.label(["Model size (parameters)"] * len(groups), "Attack success rate")
    return panels.figure


def _iterations(rows: pd.DataFrame) -> str:
    """The iteration that is shown: that of most tasks, and which tasks have another one."""
    steps = sorted(rows["iteration"].unique())
    if len(steps) == 1:
        return f"iteration {steps[0]}"
    if (rows.groupby("task")["iteration"].nunique() > 1).any():
        return f"iterations {steps[0]}–{steps[-1]}"
    tasks = {step: data.ordered_tasks(rows[rows["iteration"] == step]) for step in steps}
    first, *others = sorted(tasks, key=lambda step: (-len(tasks[step]), -step))
    return "; ".join(
        [f"iteration {first}", *(f"{step} of {', '.join(map(data.task_name, tasks[step]))}" for step in others)]
    )
