"""Robustness and utility against one setting of a defense, everything else equal: the radius ε and the strength β."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from hardscale.analysis.cost import COST
from hardscale.evaluation.chat_tables import FEWEST_ANSWERED, HARMLESS, LOSSES, MOST_PERPLEXITY, PERPLEXITY, UTILITIES
from hardscale.figures import chat
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis
from hardscale.figures.frame import Entry, Panels, interval_key, line_key, point_key
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import LINES, MARKERS, attack_colors, in_style, message_figure, plain
from hardscale.settings.study_attacks import attack_kinds
from hardscale.settings.study_defenses import DEFENSE_KINDS, defenses_that_train_on

ABOUT = About(place=90, victims="chat", tables=("utility", "losses", "cost"))

_CELL = ["task", "family", "scale", "seed"]
_NAMES = {"eps": "Radius ε of the attack in training", "beta": "Preference strength β"}
_KINDS = {kind: DEFENSE_KINDS[kind].label for kind in defenses_that_train_on("continuous", "chat")}
_GCG = "gcg_loss"
#: Measure -> label of its axis, in the order of the columns.
_MEASURES = {
    _GCG: "GCG loss (nats)",
    HARMLESS: "Harmless answered",
    "mmlu_accuracy": "MMLU",
    PERPLEXITY: "Perplexity / base",
}
#: Of models whose radius had no part in their training.
_SAME_LOOK: dict[str, Any] = {"linestyle": "", "marker": "x", "color": "0.1", "markersize": 7.0}
#: What has to be equal besides the setting that is looked at.
_EQUAL = ["defense_kind", "n_updates", "batch_size", "variant"]


@in_style
def draw(
    runs: pd.DataFrame,  # noqa: ARG001
    fits: pd.DataFrame,  # noqa: ARG001
    settings: FigureSpec,  # noqa: ARG001
    tables: chat.Tables | None = None,
) -> Figure:
    """Defenses that differ in one setting alone; see workflow/report/ablations.rst."""
    losses, utility = chat.table(tables, "losses", LOSSES), chat.table(tables, "utility", UTILITIES)
    cost = _trained(chat.table(tables, "cost", COST))
    series = [(name, part) for name in _NAMES for part in _series(cost, name)]
    measures = _measures(chat.last_iterations(losses), utility)
    if not series or measures.empty:
        return message_figure(
            "No two defenses with measured models differ in their radius ε or their strength β alone, so there is no "
            "ablation to show."
        )
    shown = [name for name in _MEASURES if name in set(measures["measure"])]
    rows = [name for name in _NAMES if any(setting == name for setting, _ in series)]
    series_labels = _labels(series)
    labels = list(dict.fromkeys(series_labels))
    looks = dict(zip(labels, zip(attack_colors(labels).values(), LINES * 9, MARKERS * 9, strict=False), strict=True))
    panels = Panels(
        len(rows) * len(shown), _entries(looks, measures, series), len(shown), size=(_width(len(shown)), 2.1)
    )
    xlabels = []
    for i, ax in enumerate(panels.axes):
        name, measure = rows[i // len(shown)], shown[i % len(shown)]
        mine = [(part, label) for (setting, part), label in zip(series, series_labels, strict=True) if setting == name]
        values = pd.concat([part[name] for part, _ in mine])
        zero = log_axis(ax, values, zero=bool((values == 0).any()), most=4)
        _name_values(ax, values, zero)
        for part, label in mine:
            _draw(ax, part, name, zero, measures[measures["measure"] == measure], looks[label])
        ax.margins(y=0.12)
        _mark_threshold(ax, measure)
        ax.set_title(_MEASURES[measure])
        xlabels.append(_NAMES[name])
    panels.label(xlabels, "", shared_y=False)
    return panels.figure


def _name_values(ax: Axes, values: pd.Series, zero: float | None) -> None:
    """Ticks at the values themselves where they are few and apart."""
    found = sorted(set(values[values > 0]))
    if len(found) <= 4 and all(b / a > 1.35 for a, b in pairwise(found)):
        places = [*([zero] if zero else []), *found]
        ax.xaxis.set_major_locator(FixedLocator(places))
        ax.xaxis.set_major_formatter(FixedFormatter([*(["0"] if zero else []), *(f"{v:g}" for v in found)]))


def _mark_threshold(ax: Axes, measure: str) -> None:
    """Where a model counts as collapsed, if that is in view."""
    threshold = {HARMLESS: FEWEST_ANSWERED, PERPLEXITY: MOST_PERPLEXITY}.get(measure)
    limits = ax.get_ylim()
    if threshold is not None and limits[0] < threshold < limits[1]:
        ax.axhline(threshold, color="0.4", linewidth=0.8, linestyle=(0, (1, 2)), zorder=2)
        ax.set_ylim(*limits)


def _width(n_columns: int) -> float:
    return {1: 3.5, 2: 3.2, 3: 2.4}.get(n_columns, 1.95)


def _trained(cost: pd.DataFrame) -> pd.DataFrame:
    """Models of the continuous defenses; training without an attack is one with a radius of 0."""
    rows = cost[cost["defense_kind"].isin(_KINDS)].copy()
    rows["eps"] = rows["eps"].astype(float).where(rows["attack_space"].notna(), 0.0)
    return rows


def _series(cost: pd.DataFrame, setting: str) -> list[pd.DataFrame]:
    """Groups of models that differ in one setting alone, with at least two values of it."""
    rows = cost[cost[setting].notna()].fillna({"beta": -1.0})
    # Without an attack there are no passes of it, whatever the others take.
    steps = rows["example_forward_passes"].where(rows["example_forward_passes"] > 0)
    rows = rows.assign(attack_steps=steps.fillna(steps.max()).fillna(0))
    keys = ["task", "family", "scale", *_EQUAL, _held(setting), "attack_steps"]
    parts = [part for _, part in rows.groupby(keys, dropna=False, sort=True)]
    return [part for part in parts if part[setting].nunique() > 1 and (part[setting] > 0).sum() > 1]


def _held(setting: str) -> str:
    return "beta" if setting == "eps" else "eps"


def _labels(series: Sequence[tuple[str, pd.DataFrame]]) -> list[str]:
    """A label for each series; those of one row that would share theirs are told apart by a defense of each."""
    plainly = [_label(setting, part) for setting, part in series]
    times = Counter((setting, label) for (setting, _), label in zip(series, plainly, strict=True))
    return [
        label if times[setting, label] == 1 else f"{label}: {plain(part['defense'].min(), 24)}, …"
        for (setting, part), label in zip(series, plainly, strict=True)
    ]


def _label(setting: str, part: pd.DataFrame) -> str:
    """Which defense, on which model, and the value of the setting that is held."""
    model, held = part.iloc[0], _held(setting)
    value = float(model[held])
    and_held = "" if value < 0 or math.isnan(value) else f", {'β' if held == 'beta' else 'ε'} = {value:g}"
    return f"{_KINDS[model['defense_kind']]}{and_held} ({plain(model['family'], 14)} {plain(model['scale'], 12)})"


def _measures(last: pd.DataFrame, utility: pd.DataFrame) -> pd.DataFrame:
    """Rows ``_CELL, defense, round, measure, value, low, high, collapsed`` of every model."""
    keys = [*_CELL, "defense", "round"]
    ranking = attack_kinds(lambda attack: bool(attack.ranks))
    gcg = last[last["attack_kind"].isin(ranking)].sort_values("attack", kind="stable").drop_duplicates(keys)
    gcg = gcg.rename(columns={"loss": "value", "ci_low": "low", "ci_high": "high"}).assign(measure=_GCG)
    other = utility[utility["metric"].isin(_MEASURES) & utility["value"].notna()]
    other = other.rename(columns={"metric": "measure", "ci_low": "low", "ci_high": "high"})
    relative = other["measure"] == PERPLEXITY
    for name in ("low", "high"):
        other[name] = other[name].astype(float).where(~relative)
    other["value"] = other["value"].where(~relative, other["relative"]).astype(float)
    columns = [*keys, "measure", "value", "low", "high"]
    parts = [part[columns] for part in (gcg, other) if len(part)]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    broken = utility[utility["collapsed"].astype("boolean").fillna(False).astype(bool)][keys].drop_duplicates()
    found = found.merge(broken.assign(collapsed=True), how="left", on=keys)
    return found.assign(collapsed=found["collapsed"].notna())


def _draw(
    ax: Axes,
    models: pd.DataFrame,
    setting: str,
    zero: float | None,
    measures: pd.DataFrame,
    look: tuple[str, object, str],
) -> None:
    """A point a model, a line through the means at each value."""
    color, line, marker = look
    rows = models.merge(measures, on=[*_CELL, "defense", "round"])
    rows = rows.assign(x=rows[setting].where(rows[setting] > 0, zero or 0.0)).sort_values("x", kind="stable")
    if rows.empty:
        return
    middle = rows.groupby("x")["value"].mean()
    ax.plot(middle.index, middle, color=color, linestyle=line, linewidth=1.1, zorder=3)
    known = rows[rows["low"].notna() & rows["high"].notna()]
    ax.vlines(
        known["x"], known["low"].astype(float), known["high"].astype(float), color=color, linewidth=0.8, alpha=0.65
    )
    for hollow in (False, True):
        part = rows[rows["collapsed"] == hollow]
        face = "white" if hollow else color
        ax.plot(part["x"], part["value"], linestyle="", marker=marker, color=color, markerfacecolor=face, zorder=4)
    same = rows[_same_perturbations(rows, setting)]
    ax.plot(same["x"], same["value"], **_SAME_LOOK, zorder=5)


def _same_perturbations(models: pd.DataFrame, setting: str) -> pd.Series:
    """Which models were trained against perturbations that the setting had no part in, as bool.

    Where the radius is what differs and none left the ball, all such members of a series are one and the same training.
    """
    unused = models["eps_unused"].astype("boolean").fillna(False).astype(bool)
    return unused & (models["eps"] > 0) & (setting == "eps")


def _entries(
    looks: dict[str, tuple[str, object, str]], measures: pd.DataFrame, series: Sequence[tuple[str, pd.DataFrame]]
) -> list[Entry]:
    entries = [line_key(label, color, line, marker) for label, (color, line, marker) in looks.items()]
    if measures["collapsed"].any():
        entries.append(point_key("collapsed", hollow=True))
    if any(_same_perturbations(part, setting).any() for setting, part in series):
        entries.append((Line2D([], [], **_SAME_LOOK), "ε never reached: no effect"))
    return [*entries, interval_key("95% interval")]
