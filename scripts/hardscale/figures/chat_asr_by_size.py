"""Refusal and attack success of undefended chat models against their number of parameters, a line a judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hardscale.evaluation.chat_tables import UTILITIES
from hardscale.figures import chat, data
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, share_axis
from hardscale.figures.frame import Entry, Panels, line_key, point_key
from hardscale.figures.series import Look, dodges, draw_points
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import LINES, MARKERS, attack_colors, in_style, message_figure, plain

ABOUT = About(place=130, victims="chat", tables=("utility",), only="several_sizes")

_SIZE = 4.2


@in_style
def draw(
    runs: pd.DataFrame,
    fits: pd.DataFrame,  # noqa: ARG001
    settings: FigureSpec,  # noqa: ARG001
    tables: chat.Tables | None = None,
) -> Figure:
    """Before the attack and after its last iteration; see workflow/report/chat_asr_by_size.rst."""
    groups = list(_panels(_shares(data.undefended(chat.by_reader(runs)))))
    if not groups:
        return message_figure(
            "No family of chat models has been measured at two sizes or more before a defense, so there is no line to "
            "draw."
        )
    looks = _looks(chat.readers(runs))
    broken = chat.collapsed(chat.table(tables, "utility", UTILITIES))
    shown = pd.concat([part for _, part in groups])
    tasks, families = shown["task"].nunique() > 1, shown["family"].nunique() > 1
    titles = [
        [
            *what,
            plain(part["family"].iloc[0], 20) if families else "",
            data.task_name(part["task"].iloc[0]) if tasks else "",
        ]
        for what, part in groups
    ]
    panels = Panels(len(groups), _entries(looks, _broken(shown, broken).any(), shown["n_seeds"]), titles=titles)
    for ax, (_, part) in zip(panels.axes, groups, strict=True):
        log_axis(ax, part["n_params"], counts=True, most=panels.most_ticks)
        share_axis(ax)
        for judge, look in looks.items():
            _draw(ax, part[part["judge"] == judge], look, broken)
    panels.label(["Model size (parameters)"] * len(groups), "Share of requests")
    return panels.figure


def _shares(rates: pd.DataFrame) -> pd.DataFrame:
    """What panels show: ``share``, the refused before the attack (iteration 0) or the complied with after it."""
    first = rates[rates["iteration"] == 0].sort_values(["n", "attack"], ascending=[False, True], kind="stable")
    # Every attack begins with the same requests; one that asks more of them than the others tells most.
    first = first.drop_duplicates([*chat.MODEL, "judge"])
    refused = first.assign(asr=1 - first["asr"], low=1 - first["high"], high=1 - first["low"])
    last = chat.last_iterations(rates[rates["iteration"] > 0])
    return pd.concat([refused, last]).rename(columns={"asr": "share"})


def _panels(shares: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Parts of a title and rows of each panel: by task and family, before the attack, then under each attack."""
    for _, rows in data.panels(shares, "task", "family"):
        before, after = rows[rows["iteration"] == 0], rows[rows["iteration"] > 0]
        parts = [(["Refused", "before the attack"], before)]
        for attack, position in data.ordered_attacks(after):
            part = after[(after["attack"] == attack) & (after["position"] == position)]
            label = chat.attack_label(part)
            parts.append((["Attack success", label], part))
        yield from ((what, part) for what, part in parts if part["scale"].nunique() > 1)


def _draw(ax: Axes, rows: pd.DataFrame, look: Look, broken: set[tuple[Any, ...]]) -> None:
    """A line through the sizes, a point each with its interval; open where the model is collapsed."""
    rows = rows.sort_values(["n_params", "scale"], kind="stable")
    x, hollow = rows["n_params"].to_numpy(float) * look.dodge, _broken(rows, broken).to_numpy()
    ax.plot(x, rows["share"], color=look.color, linestyle=look.line, zorder=look.zorder)
    ax.vlines(x, rows["low"], rows["high"], color=look.color, linewidth=0.9, zorder=look.zorder)
    for kind in (False, True):
        draw_points(ax, x[hollow == kind], rows["share"][hollow == kind], replace(look, hollow=kind))


def _broken(rows: pd.DataFrame, broken: set[tuple[Any, ...]]) -> pd.Series:
    """Whether each row is of a collapsed model."""
    return pd.Series(
        [model in broken for model in rows[chat.MODEL].itertuples(index=False, name=None)], rows.index, dtype=bool
    )


def _looks(judges: list[str]) -> dict[str, Look]:
    colors = attack_colors(judges)
    return {
        judge: Look(colors[judge], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)], dodge=factor, size=_SIZE)
        for i, (judge, factor) in enumerate(zip(judges, dodges(len(judges)), strict=True))
    }


def _entries(looks: dict[str, Look], any_broken: bool, n_seeds: pd.Series) -> list[Entry]:
    names = [plain(judge, 40) for judge in looks]
    names[0] += " (decides)" if len(names) > 1 else ""
    entries = [
        line_key(name, look.color, look.line, look.marker) for name, look in zip(names, looks.values(), strict=True)
    ]
    entries += [point_key("collapsed", hollow=True, size=_SIZE)] if any_broken else []
    return [*entries, *chat.spread_entries(n_seeds)]
