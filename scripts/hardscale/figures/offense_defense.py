"""Attack compute that reaches a target success rate against defense compute, a line a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from numpy.typing import NDArray

from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, log_y_axis, zero_places
from hardscale.figures.frame import Panels, line_key, point_key
from hardscale.figures.series import draw_points
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import in_style, message_figure

ABOUT = About(place=60, victims="classifiers")

#: An arrow that starts at the point and goes up.
_ARROW: Any = Path([(0, 0), (0, 1), (-0.22, 0.66), (0, 1), (0.22, 0.66)], [1, 2, 1, 2, 2])
_OPEN: dict[str, Any] = {"markersize": 20, "markerfacecolor": "none", "markeredgewidth": 0.9, "clip_on": False}


@in_style
def draw(runs: pd.DataFrame, fits: pd.DataFrame, settings: FigureSpec) -> Figure:  # noqa: ARG001
    """Defended models and their start; see workflow/report/offense_defense.rst."""
    rows = data.with_round_zero(data.measured(runs))
    rows = rows[rows["defense_flops"].notna() & rows["attack_flops_per_example"].notna()]
    rows = data.without_lone_start(data.without_controls(rows, settings))
    points = _points(rows, settings.target_asr)
    if points.empty:
        return message_figure(
            "No attack on a defended model has been measured with both computes: there is no offense-defense curve."
        )
    scales = data.Scales(points)
    groups = [
        (key, target, part[part["target"] == target])
        for key, part in data.panels(points, "task", "attack", "position", "defense", "family")
        for target in sorted(settings.target_asr)
    ]
    keys = [key for key, _, _ in groups]
    entries = [line_key(scales.label(key), scales.color(key), marker=scales.marker(key)) for key in scales.keys]
    entries.append(line_key("slope 1", "0.7", (0, (2, 2))))
    if points["censored"].any():
        entries.append(point_key("not reached: above the budget", marker=_ARROW, size=16))
    columns = len(settings.target_asr) if len(settings.target_asr) in (2, 3) else None
    named = zip(data.defended_titles(keys), groups, strict=True)
    titles = [[*title, f"target ASR {target:.3g}"] for title, (_, target, _) in named]
    panels = Panels(len(groups), entries, columns, titles)
    for ax, (_, _, part) in zip(panels.axes, groups, strict=True):
        _draw_panel(ax, part, scales, panels.most_ticks)
    xlabel, ylabel = "Defense compute (FLOPs)", "Attack compute for the target (FLOPs per example)"
    panels.label([xlabel] * len(groups), ylabel, shared_y=False)
    return panels.figure


def _points(rows: pd.DataFrame, targets: list[float]) -> pd.DataFrame:
    """One row a model, attack and target: the compute that reaches it, or the budget where it was never reached."""
    found = []
    for _, curve in rows.groupby(data.CURVE, sort=True):
        curve = curve.sort_values("iteration")
        steps = curve[curve["iteration"] >= 1]
        if steps.empty:
            continue
        budget = float(steps["attack_flops_per_example"].iloc[-1])
        for target in targets:
            y = compute_to_reach(
                target, steps["asr"].to_numpy(float), steps["attack_flops_per_example"].to_numpy(float)
            )
            found.append({**curve.iloc[0].to_dict(), "target": target, "y": min(y, budget), "censored": y > budget})
    if not found:
        return pd.DataFrame()
    points = pd.DataFrame(found)
    return points.assign(x=data.mean_defense_flops(points))


def _draw_panel(ax: Axes, points: pd.DataFrame, scales: data.Scales, most: int) -> None:
    zero = log_axis(ax, points["x"], zero=bool((points["x"] == 0).any()), most=most)
    log_y_axis(ax, points["y"], room=0.16 if points["censored"].any() else 0.0)
    _slope_one(ax, zero, points["x"])
    present = scales.present(points)
    for key, beside in zip(present, zero_places(zero, points["x"], len(present)), strict=True):
        part = data.of_scale(points, key)
        part = part.assign(x=part["x"].where(part["x"] > 0, beside))
        look = scales.look(key)
        reached = part[~part["censored"]]
        draw_points(ax, reached["x"], reached["y"], look)
        if part["censored"].any():
            never = part[part["censored"]]
            ax.plot(never["x"], never["y"], linestyle="", color=look.color, marker=_ARROW, zorder=3, **_OPEN)
        middle = part.assign(y=part["y"].where(~part["censored"], np.inf)).groupby("x")["y"].median()
        # A median that was not reached leaves a gap in the line.
        ax.plot(middle.index, middle.where(np.isfinite(middle)), color=look.color, zorder=3)


def _slope_one(ax: Axes, zero: float | None, x: pd.Series) -> None:
    """Dashed lines y = c x, a decade apart; where a curve is flatter, doubling both sides helps the attacker."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    left = float(np.sqrt(zero * x[x > 0].min())) if zero is not None and (x > 0).any() else left
    ends = np.array([left, right])
    for exponent in range(int(np.floor(np.log10(low / right))), int(np.ceil(np.log10(high / left))) + 1):
        ax.plot(ends, ends * 10.0**exponent, color="0.8", linewidth=0.6, linestyle=(0, (3, 3)), zorder=0.5)
    ax.grid(False)


def compute_to_reach(target: float, asr: NDArray[np.float64], compute: NDArray[np.float64]) -> float:
    """First crossing of ``target``, linear between the recorded iterations; infinity if it is never reached.

    Args:
        target: Success rate in (0, 1).
        asr: Success rate at iterations 1 … n, in order; before the attack it is 0 by definition.
        compute: Cumulative compute at the same iterations.
    """
    p = np.concatenate([[0.0], asr])
    c = np.concatenate([[0.0], compute])
    above = np.flatnonzero(p >= target)
    if not above.size:
        return float("inf")
    i = int(above[0])
    return float(c[i - 1] + (target - p[i - 1]) / (p[i] - p[i - 1]) * (c[i] - c[i - 1]))
