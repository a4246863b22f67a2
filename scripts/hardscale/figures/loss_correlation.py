"""Loss under an attack in embedding space against loss under GCG, a point a model, a panel an embedding attack."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hardscale.analysis.loss_correlation import Correlation, paired_losses, pearson, spearman
from hardscale.evaluation.chat_tables import LOSSES, UTILITIES
from hardscale.figures import chat
from hardscale.figures.about import About
from hardscale.figures.data import task_name
from hardscale.figures.frame import Entry, Panels, point_key
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import MARKERS, in_style, message_figure, plain

ABOUT = About(place=100, victims="chat", tables=("utility", "losses"))


@in_style
def draw(
    runs: pd.DataFrame,  # noqa: ARG001
    fits: pd.DataFrame,  # noqa: ARG001
    settings: FigureSpec,  # noqa: ARG001
    tables: chat.Tables | None = None,
) -> Figure:
    """Losses after the last iteration; see workflow/report/loss_correlation.rst."""
    points = paired_losses(chat.table(tables, "losses", LOSSES))
    if points.empty:
        return message_figure(
            "No chat model has been measured under both GCG and an attack in embedding space, so there is nothing to "
            "correlate."
        )
    broken = chat.collapsed(chat.table(tables, "utility", UTILITIES))
    defenses = chat.Defenses(points)
    sizes = points.drop_duplicates(["family", "scale"]).sort_values(["family", "n_params", "scale"])
    models = list(sizes[["family", "scale"]].itertuples(index=False, name=None))
    groups = list(points.groupby(["task", "attack"], sort=True))
    several = points["task"].nunique() > 1
    titles = [[task_name(task) if several else "", chat.attack_label(part)] for (task, _), part in groups]
    panels = Panels(len(groups), _entries(defenses, models, points, broken), min(len(groups), 2), titles)
    for ax, (_, part) in zip(panels.axes, groups, strict=True):
        _draw(ax, part, defenses, models, broken)
        found = [f(part["continuous"], part["discrete"]) for f in (spearman, pearson)]
        # Two points of one loss have room above them for what is said of all.
        low, high = float(part["discrete"].min()), float(part["discrete"].max())
        ax.set_ylim(low - 0.08 * max(high - low, 0.2), high + 0.42 * max(high - low, 0.2))
        ax.margins(x=0.08)
        ax.text(0.03, 0.97, _said(found), transform=ax.transAxes, va="top", fontsize=7.5, color="0.2")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    label = "GCG loss (nats per token)"
    panels.label(["Embedding-attack loss (nats per token)"] * len(groups), label, shared_y=False)
    return panels.figure


def _draw(
    ax: Axes,
    rows: pd.DataFrame,
    defenses: chat.Defenses,
    models: Sequence[tuple[str, str]],
    broken: set[tuple[object, ...]],
) -> None:
    for row in rows.itertuples():
        key = (str(row.defense), int(row.round))
        hollow = (row.task, row.family, row.scale, *key) in broken
        ax.plot(
            [row.continuous],
            [row.discrete],
            linestyle="",
            marker=_marker(defenses, key, models, (row.family, row.scale)),
            markersize=5.2,
            color=defenses.color(key),
            markerfacecolor="white" if hollow else defenses.color(key),
            zorder=4,
        )


def _marker(
    defenses: chat.Defenses, key: tuple[str, int], models: Sequence[tuple[str, str]], model: tuple[str, str]
) -> str:
    """Markers tell base models apart where there are several, else defenses."""
    return MARKERS[models.index(model) % len(MARKERS)] if len(models) > 1 else defenses.marker(key)


def _entries(
    defenses: chat.Defenses,
    models: Sequence[tuple[str, str]],
    points: pd.DataFrame,
    broken: set[tuple[object, ...]],
) -> list[Entry]:
    names = {item[3:] for item in broken}
    alone = len(models) == 1
    entries = []
    for key in defenses.keys:
        hollow = alone and key in names
        marker = defenses.marker(key) if alone else "o"
        entries.append(point_key(defenses.label(key, hollow), defenses.color(key), marker, hollow=hollow, size=5.2))
    if not alone:
        entries += [
            point_key(f"{plain(family, 16)} {plain(scale, 14)}", marker=MARKERS[i % len(MARKERS)], size=5.2)
            for i, (family, scale) in enumerate(models)
        ]
        if set(points[chat.MODEL].itertuples(index=False, name=None)) & broken:
            entries.append(point_key("collapsed", hollow=True, size=5.2))
    return entries


def _said(found: Sequence[Correlation]) -> str:
    """Spearman's coefficient with its interval, and Pearson's."""
    rho, r = (_value(one) for one in found)
    few = "" if found[0].low is not None or found[0].value is None else " (too few models for an interval)"
    return f"Spearman ρ = {rho}{few}\nPearson r = {r}\n{found[0].n} models"


def _value(one: Correlation) -> str:
    if one.value is None:
        return "not defined"
    return f"{one.value:.2f}" if one.low is None else f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"
