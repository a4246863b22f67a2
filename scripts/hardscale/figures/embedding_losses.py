"""Loss of the target over the iterations of attacks in embedding space, a line a defense, a panel an attack."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hardscale.evaluation.chat_tables import LOSSES
from hardscale.figures import chat
from hardscale.figures.about import About
from hardscale.figures.frame import Panels, band_key, line_key, n_columns
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import LINES, in_style, message_figure

ABOUT = About(place=110, victims="chat", tables=("losses",))


@in_style
def draw(
    runs: pd.DataFrame,  # noqa: ARG001
    fits: pd.DataFrame,  # noqa: ARG001
    settings: FigureSpec,  # noqa: ARG001
    tables: chat.Tables | None = None,
) -> Figure:
    """Means over behaviors; see workflow/report/embedding_losses.rst."""
    rows = chat.in_embeddings(chat.table(tables, "losses", LOSSES))
    if rows.empty:
        return message_figure("No attack in embedding space on a chat model has been measured, so there is no loss.")
    defenses = chat.Defenses(rows)
    groups = [(key, part) for key, of_model in chat.panels(rows) for part in _attacks(of_model)]
    titles = [
        [*title, chat.attack_label(part)]
        for title, (_, part) in zip(chat.panel_titles([key for key, _ in groups]), groups, strict=True)
    ]
    entries = [
        line_key(defenses.label(key), defenses.color(key), LINES[i % len(LINES)]) for i, key in enumerate(defenses.keys)
    ]
    banded = rows["ci_low"].notna().any()
    n_attacks = max(sum(key == other for other, _ in groups) for key, _ in groups)
    columns = n_attacks if 1 < n_attacks <= 3 else n_columns(len(groups))
    panels = Panels(len(groups), [*entries, *([band_key("95% interval")] if banded else [])], columns, titles)
    for ax, (_, part) in zip(panels.axes, groups, strict=True):
        for i, key in enumerate(defenses.keys):
            _draw_line(ax, chat.of_defense(part, key), defenses.color(key), LINES[i % len(LINES)])
        ends = part[["loss", "ci_high"]].max(axis=1)
        ax.set_ylim(min(0.0, float(part["loss"].min())), max(1.06 * float(ends.max()), 0.1))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=panels.most_ticks, integer=True))
    panels.label(["Iteration of the attack"] * len(groups), "Target loss (nats per token)", shared_y=False)
    return panels.figure


def _attacks(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Bounded attacks by their radius, then unbounded ones."""
    order = rows.drop_duplicates("attack").sort_values(["eps", "attack"], na_position="last", kind="stable")
    return [rows[rows["attack"] == attack] for attack in order["attack"]]


def _draw_line(ax: Axes, rows: pd.DataFrame, color: str, line: object) -> None:
    """The mean over seeds; the band of a lone seed."""
    if rows.empty:
        return
    middle = rows.groupby("iteration")["loss"].mean()
    ax.plot(middle.index, middle, color=color, linestyle=line, zorder=4)
    if rows["seed"].nunique() == 1:
        known = rows[rows["ci_low"].notna()].sort_values("iteration")
        ax.fill_between(known["iteration"], known["ci_low"], known["ci_high"], color=color, alpha=0.13, linewidth=0)
