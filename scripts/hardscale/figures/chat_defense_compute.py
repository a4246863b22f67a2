"""Attack success of chat models against the compute of their defense, discrete or continuous, a panel an attack."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hardscale.analysis.points import UNDEFENDED
from hardscale.evaluation.chat_tables import UTILITIES
from hardscale.figures import chat
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, log_range, share_axis
from hardscale.figures.data import ordered_attacks
from hardscale.figures.frame import Entry, Panels, line_key, point_key
from hardscale.figures.series import Look, draw_points
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import in_style, message_figure

ABOUT = About(place=120, victims="chat", tables=("utility",))

#: Marker by what a defense attacks in training.
_DISCRETE, _CONTINUOUS = "s", "o"


@in_style
def draw(
    runs: pd.DataFrame,
    fits: pd.DataFrame,  # noqa: ARG001
    settings: FigureSpec,  # noqa: ARG001
    tables: chat.Tables | None = None,
) -> Figure:
    """Last iteration of every attack; see workflow/report/chat_defense_compute.rst."""
    rates = chat.judged(runs)
    rows = chat.last_iterations(rates[rates["iteration"] > 0])
    trained = rows[(rows["defense"] != UNDEFENDED) & (rows["defense_flops"] > 0)]
    if trained.empty:
        return message_figure(
            "No attack on a defended chat model with known training compute has been measured: there is no compute to "
            "compare."
        )
    broken = chat.collapsed(chat.table(tables, "utility", UTILITIES))
    defenses = chat.Defenses(rows)
    groups = [
        (key, part[(part["attack"] == attack) & (part["position"] == position)])
        for key, part in chat.panels(rows)
        for attack, position in ordered_attacks(part[part["defense"] != UNDEFENDED])
    ]
    titles = [
        [*title, chat.attack_label(part)]
        for title, (_, part) in zip(chat.panel_titles([key for key, *_ in groups]), groups, strict=True)
    ]
    panels = Panels(len(groups), _entries(defenses, rows, broken), titles=titles)
    for ax, (key, part) in zip(panels.axes, groups, strict=True):
        computes = trained.loc[(trained[chat.PANEL] == list(key)).all(axis=1), "defense_flops"]
        share_axis(ax)
        if computes.empty:
            ax.set_xticks([0.5], ["unknown"])  # there are lines across alone
            places = {}
        else:
            log_axis(ax, computes, most=panels.most_ticks)
            places = _beside(part[part["defense_flops"] > 0], computes)
        for name in defenses.keys:
            _draw(ax, chat.of_defense(part, name), defenses, name, places, (*key, *name) in broken)
    panels.label(["Defense compute (FLOPs)"] * len(groups), "Attack success rate")
    return panels.figure


def _beside(rows: pd.DataFrame, computes: pd.Series) -> dict[tuple[str, int], float]:
    """Where each defense is drawn: those of about the same compute side by side around it."""
    low, high, _ = log_range(computes)
    step = 10 ** (0.028 * float(np.log10(high / low)))
    groups: list[list[tuple[float, tuple[str, int]]]] = []
    names = zip(rows["defense"].astype(str), rows["round"].astype(int), strict=True)
    for flops, name in sorted(zip(rows["defense_flops"].astype(float), names, strict=True)):
        if groups and flops <= groups[-1][0][0] * step:
            groups[-1].append((flops, name))
        else:
            groups.append([(flops, name)])
    return {
        name: group[0][0] * step ** (i - (len(group) - 1) / 2) for group in groups for i, (_, name) in enumerate(group)
    }


def _draw(
    ax: Axes,
    rows: pd.DataFrame,
    defenses: chat.Defenses,
    name: tuple[str, int],
    places: dict[tuple[str, int], float],
    hollow: bool,
) -> None:
    """A point with its interval; a line across where there is no compute: the base, and what others trained."""
    if rows.empty:
        return
    row, color = rows.iloc[0], defenses.color(name)
    if not row["defense_flops"] > 0:
        style = (0, (1, 1.5)) if name[0] == UNDEFENDED else (0, (5, 2))
        ax.axhline(row["asr"], color=color, linestyle=style, linewidth=1.1, zorder=2)
        if name[0] == UNDEFENDED:
            ax.axhspan(row["low"], row["high"], color=color, alpha=0.08, linewidth=0, zorder=1)
        return
    look = Look(color, _marker(defenses, name), hollow=hollow, size=5.0)
    ax.vlines(places[name], row["low"], row["high"], color=color, linewidth=0.9, zorder=3)
    draw_points(ax, [places[name]], [row["asr"]], look)


def _marker(defenses: chat.Defenses, name: tuple[str, int]) -> str:
    return _DISCRETE if defenses.kinds[name] in chat.DISCRETE else _CONTINUOUS


def _entries(defenses: chat.Defenses, rows: pd.DataFrame, broken: set[tuple[object, ...]]) -> list[Entry]:
    names = {item[3:] for item in broken}
    entries: list[Entry] = []
    for name in defenses.keys:
        known = (chat.of_defense(rows, name)["defense_flops"] > 0).any()
        label, color = defenses.label(name, name in names), defenses.color(name)
        if known:
            entries.append(point_key(label, color, _marker(defenses, name), hollow=name in names, size=5.0))
        elif name[0] == UNDEFENDED:
            entries.append(line_key(label, color, (0, (1, 1.5))))
        else:
            entries.append(line_key(f"{label}, compute unknown", color, (0, (5, 2))))
    shapes = {_marker(defenses, name) for name in defenses.keys if name[0] != UNDEFENDED}
    if len(shapes) > 1:
        entries += [point_key("discrete attack in training", marker=_DISCRETE, size=5.0)]
        entries += [point_key("continuous or none", marker=_CONTINUOUS, size=5.0)]
    return [*entries, *chat.spread_entries(rows["n_seeds"])]
