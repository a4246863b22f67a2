"""Log-odds of attack success against attack compute, a line a scale, a panel a task and attack."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, logit_axis, logit_limits
from hardscale.figures.frame import Entry, Panels, line_key, point_key, varying
from hardscale.figures.series import Look, draw_points, place
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import in_style, message_figure, plain

ABOUT = About(place=20, victims="classifiers")

Limits = tuple[float, float]
_DASHED = (0, (3, 1.5))


@in_style
def draw(runs: pd.DataFrame, fits: pd.DataFrame, settings: FigureSpec) -> Figure:
    """Undefended models; see workflow/report/attack_scaling.rst."""
    rows = data.undefended(data.measured(runs))
    rows = rows[(rows["iteration"] >= 1) & (rows["attack_flops_per_example"] > 0)]
    if rows.empty:
        return message_figure(
            "No attack on an undefended model has been measured with its compute, so there is no attack scaling."
        )
    rows = data.mark_controls(_with_compute(rows), settings)
    scales = data.Scales(rows)
    groups = data.panels(rows, "task", "shown_with", "position", "family")
    keys = [key for key, _ in groups]
    lines = _lines(fits)
    titles = [
        [data.task_name(task), data.attack_name(attack, position), plain(family, 16) if varying(keys, 3) else ""]
        for task, attack, position, family in keys
    ]
    panels = Panels(len(groups), _entries(scales, rows, lines), titles=titles)
    limits = logit_limits(rows["asr"])
    xlabels = []
    for ax, ((_, _, _, family), part) in zip(panels.axes, groups, strict=True):
        log_axis(ax, part["x"], most=panels.most_ticks)
        logit_axis(ax, limits)
        for key in scales.present(part):
            _draw_scale(ax, data.of_scale(part, key), scales, key, lines, limits)
        xlabels.append(_xlabel(family, bool(part["relative"].all()), settings))
    panels.label(xlabels, "Attack success rate (log-odds)")
    return panels.figure


def _with_compute(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``x``: attack compute over pretraining compute where a family's is known, else attack compute."""
    known = (rows["pretrain_flops"] > 0).groupby(rows["family"]).transform("all")
    relative = rows["attack_flops_per_example"] / rows["pretrain_flops"]
    return rows.assign(x=relative.where(known, rows["attack_flops_per_example"]), relative=known)


def _xlabel(family: str, relative: bool, settings: FigureSpec) -> str:
    if not relative:
        return "Attack compute (FLOPs per example)"
    if family in settings.scratch_families:
        return "Attack compute / (pretraining + finetuning)"
    return "Attack compute / pretraining compute"


def _lines(fits: pd.DataFrame) -> pd.DataFrame:
    """The fitted lines of undefended models."""
    rows = fits[(fits["kind"] == "attack_scaling") & (fits["method"] == "binomial")]
    rows = rows[(rows["defense"].isna() | (rows["defense"] == data.UNDEFENDED)) & (rows["round"].fillna(0) == 0)]
    return rows[rows["slope"].notna() & rows["intercept"].notna()]


def _entries(scales: data.Scales, rows: pd.DataFrame, lines: pd.DataFrame) -> list[Entry]:
    entries = [point_key(scales.label(key), scales.color(key), scales.marker(key)) for key in scales.keys]
    entries.append(point_key("median of seeds" if scales.crowded else "each seed"))
    if len(lines):
        entries.append(line_key("binomial fit"))
    if rows["control"].any():
        entries.append(line_key("no-gradient control, median", style=_DASHED))
    shown = rows[~rows["control"]]
    if ((shown["asr"] <= 0) | (shown["asr"] >= 1)).any():
        entries.append(point_key("none or all succeed", hollow=True))
    return entries


def _draw_scale(
    ax: Axes, rows: pd.DataFrame, scales: data.Scales, key: tuple[str, str], lines: pd.DataFrame, limits: Limits
) -> None:
    look = scales.look(key, size=3.2)
    attack = rows[~rows["control"]]
    shown = attack[attack["iteration"].isin(data.thin(attack["iteration"].tolist(), 8))]
    if scales.crowded:
        shown = shown.groupby("iteration")[["x", "asr"]].median()
    draw_points(ax, shown["x"], shown["asr"], look, limits=limits)
    fit = _fit_of(attack, lines)
    if fit is None or not attack["relative"].all():
        _median_line(ax, attack, look, "-", limits)
    else:
        x = np.array([attack["x"].min(), attack["x"].max()])
        ax.plot(x, fit[0] + fit[1] * np.log10(x), color=look.color, zorder=look.zorder)
    _median_line(ax, rows[rows["control"]], look, _DASHED, limits)


def _fit_of(rows: pd.DataFrame, lines: pd.DataFrame) -> tuple[float, float] | None:
    """Intercept and slope of the fit for these rows (one task, family, scale, attack and position)."""
    if rows.empty:
        return None
    same = np.ones(len(lines), dtype=bool)
    for column in ("task", "family", "scale", "attack", "position"):
        same &= (lines[column] == rows[column].iloc[0]).to_numpy(bool)
    found = lines[same]
    return (float(found["intercept"].iloc[0]), float(found["slope"].iloc[0])) if len(found) else None


def _median_line(ax: Axes, rows: pd.DataFrame, look: Look, style: object, limits: Limits) -> None:
    """A line through the seeds' median at each iteration."""
    if rows.empty:
        return
    middle = rows.groupby("iteration")[["x", "asr"]].median()
    ax.plot(
        middle["x"], place(middle["asr"], limits), color=look.color, linestyle=style, linewidth=0.9, zorder=look.zorder
    )
