"""Bars of what chat models are good for and of how often each attack succeeds, a row of bars a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator

from hardscale.evaluation.chat_tables import HARMLESS, PERPLEXITY, UTILITIES, WORST
from hardscale.figures import chat
from hardscale.figures.about import About
from hardscale.figures.data import ordered_attacks
from hardscale.figures.frame import Entry, Panels
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import in_style, message_figure, plain

ABOUT = About(place=80, victims="chat", tables=("utility", "worst"))

#: Inches; of many groups of bars each has its place.
_WIDTH, _HEIGHT, _PER_GROUP = 7.2, 2.7, 0.62
#: Characters of a line under a group of bars.
_LINE = 11
#: Rated from 1 to 10; drawn tenfold, as the paper does.
_MT_BENCH = "mt_bench"
#: Metric -> what is written under its bars, in the order of the bars.
_UTILITY = {
    HARMLESS: "harmless\nanswered",
    "mmlu_accuracy": "MMLU",
    "mmlu_refused": "MMLU not\nrefused",
    "mmlu": "MMLU\n(harness)",
    "arc_easy": "ARC-E",
    "arc_challenge": "ARC-C",
    _MT_BENCH: "MT-Bench\n×10",
    PERPLEXITY: "perplexity\nbase/own",
}
#: Not what a model is good for, another mode of the same judge, or a part of a measure that is drawn.
_NOT_UTILITY = (
    "harmless_answered_anywhere",
    "polite_complied",
    "mt_bench_first_turn",
    "mt_bench_second_turn",
    "mt_bench_unparsed",
)
_REFUSED = "mmlu_refused"
_POLITE = "polite_complied"


@dataclass(frozen=True)
class _Bar:
    """A bar in per cent with its interval, NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


@in_style
def draw(
    runs: pd.DataFrame,
    fits: pd.DataFrame,  # noqa: ARG001
    settings: FigureSpec,  # noqa: ARG001
    tables: chat.Tables | None = None,
) -> Figure:
    """Utility left of the dashed line, attack success right of it; see workflow/report/robustness_bars.rst."""
    rates = chat.judged(runs)
    if rates.empty:
        return message_figure("No attack on a chat model has been measured, so there are no bars to draw.")
    utility = chat.table(tables, "utility", UTILITIES)
    worst = chat.table(tables, "worst", WORST)
    defenses, broken = chat.Defenses(rates), chat.collapsed(utility)
    groups = chat.panels(rates)
    bars = []
    for key, part in groups:
        mine = {
            name: frame[(frame[chat.PANEL] == list(key)).all(axis=1)] for name, frame in (("u", utility), ("w", worst))
        }
        bars.append((_utility_bars(mine["u"], defenses), _attack_bars(part, mine["w"], mine["u"], defenses)))
    titles = chat.panel_titles([key for key, _ in groups], always=True)
    width = max(_WIDTH, _PER_GROUP * max(len(left) + len(right) for left, right in bars))
    panels = Panels(len(groups), _entries(defenses, broken, rates["n_seeds"]), 1, titles, size=(width, _HEIGHT))
    for ax, (key, _), (left, right) in zip(panels.axes, groups, bars, strict=True):
        _draw(ax, left, right, defenses, {item[3:] for item in broken if item[:3] == key})
    panels.label([""] * len(groups), "Per cent", shared_y=False)
    return panels.figure


Bars = list[tuple[str, dict[tuple[str, int], _Bar]]]


def _utility_bars(rows: pd.DataFrame, defenses: chat.Defenses) -> Bars:
    """Groups of bars by metric; seeds are averaged, with the interval of a lone one or the range of several."""
    found = []
    for metric in [*_UTILITY, *sorted(set(rows["metric"]) - {*_UTILITY, *_NOT_UTILITY})]:
        bars = {}
        for key in defenses.keys:
            part = chat.of_defense(rows[rows["metric"] == metric], key)
            part = part[part["value"].notna()]
            if part.empty:
                continue
            if metric == PERPLEXITY:
                relative = float(part["relative"].mean())
                bars[key] = _Bar(100 / relative if relative > 0 else float("nan"))
            elif metric == _MT_BENCH:
                tenths = {name: part[name].astype(float) / 10 for name in ("value", "ci_low", "ci_high")}
                bars[key] = _share(part.assign(**tenths))
            elif part["value"].between(0, 1).all():
                bars[key] = _share(part, missing=metric == _REFUSED)
        if bars:
            found.append((_UTILITY.get(metric) or plain(metric.replace("_", " "), 18), bars))
    return found


def _share(rows: pd.DataFrame, *, missing: bool = False) -> _Bar:
    """A share of models that differ in their seed; ``missing``: what it lacks to all."""
    alone = rows[["ci_low", "ci_high"]].iloc[0].astype(float)
    ends = alone if len(rows) == 1 else (rows["value"].min(), rows["value"].max())
    value, low, high = (100 * float(one) for one in (rows["value"].mean(), *ends))
    return _Bar(100 - value, 100 - high, 100 - low) if missing else _Bar(value, low, high)


def _attack_bars(rates: pd.DataFrame, worst: pd.DataFrame, utility: pd.DataFrame, defenses: chat.Defenses) -> Bars:
    """Groups of bars by attack: none, politeness, each in text, the worst of these, each in embedding space."""
    found: Bars = []
    bounds: Bars = []
    first = rates[rates["iteration"] == 0].drop_duplicates(chat.MODEL)
    found.append(("no\nattack", _bars(first, defenses)))
    polite = utility[(utility["metric"] == _POLITE) & utility["value"].notna()]
    parts = {key: chat.of_defense(polite, key) for key in defenses.keys}
    if len(polite):
        found.append(("asked\npolitely", {key: _share(part) for key, part in parts.items() if len(part)}))
    last = chat.last_iterations(rates[rates["iteration"] > 0])
    embedded = set(chat.in_embeddings(last)["attack"])
    for attack, position in ordered_attacks(last):
        part = last[(last["attack"] == attack) & (last["position"] == position)]
        bars = _folded(chat.attack_label(part)), _bars(part, defenses)
        (bounds if attack in embedded else found).append(bars)
    of_any = chat.over_seeds(worst.rename(columns={"n_success": "k"}), chat.MODEL, most=("n_attacks", "max"))
    if len(of_any) and of_any["most"].max() > 1:
        found.append(("worst of\nthese", _bars(of_any, defenses)))
    return [*found, *bounds]


def _folded(label: str) -> str:
    """An attack's name on lines that fit under its bars: cut behind hyphens and blanks, and the radius by itself."""
    name, bracket, radius = label.partition(" (")
    lines: list[str] = []
    for part in re.findall(r"[^-\s]+-?|-", name):
        short = plain(part, _LINE)
        fits = bool(lines) and len(lines[-1]) + len(short) < _LINE
        if fits:
            lines[-1] += short if lines[-1].endswith("-") else f" {short}"
        else:
            lines.append(short)
    if bracket:
        lines.append(f"({radius}" if len(radius) <= _LINE else f"({radius}".replace("–", "\n–"))
    return "\n".join(lines)


def _bars(rows: pd.DataFrame, defenses: chat.Defenses) -> dict[tuple[str, int], _Bar]:
    bars = {}
    for key in defenses.keys:
        part = chat.of_defense(rows, key)
        if len(part):
            one = part.iloc[0]
            bars[key] = _Bar(100 * one["asr"], 100 * one["low"], 100 * one["high"])
    return bars


def _draw(ax: Axes, left: Bars, right: Bars, defenses: chat.Defenses, broken: set[tuple[str, int]]) -> None:
    # Places for the defenses of this model alone: a study may have many that were tried on another one.
    keys = [key for key in defenses.keys if any(key in bars for _, bars in [*left, *right])]
    width = 0.82 / len(keys)
    ticks = [float(i) for i in range(len(left))] + [len(left) + 0.35 * bool(left) + i for i in range(len(right))]
    for x, (_, bars) in zip(ticks, [*left, *right], strict=True):
        for i, key in enumerate(keys):
            if key in bars:
                _draw_bar(ax, x + (i - (len(keys) - 1) / 2) * width, width, bars[key], _face(defenses, key, broken))
    heights = [patch.get_height() for patch in ax.patches if isinstance(patch, Rectangle)]
    top = max([100.0, *heights])  # a perplexity below the base's passes 100
    if left:
        ax.axvline(len(left) - 1 + 0.675, color="0.35", linewidth=0.8, linestyle=(0, (4, 3)))
        ax.text(
            (len(left) - 1) / 2, top + 4, "utility, higher is better", ha="center", va="bottom", fontsize=8, color="0.3"
        )
    middle = (ticks[len(left)] + ticks[-1]) / 2
    ax.text(middle, top + 4, "attack success, lower is better", ha="center", va="bottom", fontsize=8, color="0.3")
    ax.set_xlim(ticks[0] - 0.6, ticks[-1] + 0.6)
    ax.set_ylim(0, top + 14)
    ax.yaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.set_xticklabels([label for label, _ in [*left, *right]], fontsize=7.5 if len(ticks) <= 9 else 6.2)
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")


def _draw_bar(ax: Axes, x: float, width: float, bar: _Bar, face: dict[str, Any]) -> None:
    if np.isfinite(bar.value):
        # Beyond the axis there is a model that is better than the undefended one, at most by a little.
        ax.bar(x, min(bar.value, 112), width * 0.9, **face)
    if np.isfinite(bar.low) and np.isfinite(bar.high):
        ax.vlines(x, bar.low, bar.high, color="0.1", linewidth=0.7, zorder=5)


def _face(defenses: chat.Defenses, key: tuple[str, int], broken: set[tuple[str, int]]) -> dict[str, Any]:
    color = defenses.color(key)
    if key not in broken:
        return {"color": color, "linewidth": 0, "zorder": 3}
    return {"facecolor": "white", "edgecolor": color, "hatch": "//////", "linewidth": 0.6, "zorder": 3}


def _entries(defenses: chat.Defenses, broken: set[tuple[Any, ...]], n_seeds: pd.Series) -> list[Entry]:
    """A name each; with several panels a defense is named collapsed where it is so in any."""
    names = {item[3:] for item in broken}
    entries: list[Entry] = []
    for key in defenses.keys:
        face = {k: v for k, v in _face(defenses, key, names).items() if k != "zorder"}
        entries.append((Patch(**face), defenses.label(key, key in names)))
    return [*entries, *chat.spread_entries(n_seeds)]
