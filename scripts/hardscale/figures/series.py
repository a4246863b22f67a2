"""Seeds of one series: every seed a point, a median line, and the spread that the number of seeds allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from statsmodels.stats.proportion import proportion_confint

from hardscale.analysis.logodds import log10_odds
from hardscale.figures.frame import Entry, band_key, interval_key, point_key

#: A min-max band is drawn from this many seeds up: of two seeds it would be the two points themselves.
BAND_SEEDS = 3


@dataclass(frozen=True)
class Look:
    """How one series is drawn."""

    color: Any
    marker: str = "o"
    line: Any = "-"
    dodge: float = 1.0  # x is multiplied by this, so that series at the same x do not hide each other
    shift: float = 0.0  # the same for linear axes, added
    hollow: bool = False
    size: float = 3.6
    band: float = 0.18  # opacity of the min-max band
    zorder: float = 3.0


def draw_seeds(ax: Axes, points: pd.DataFrame, look: Look, *, limits: tuple[float, float] | None = None) -> None:
    """Draw a series.

    Args:
        ax: Where; its limits are set by the caller.
        points: One row a seed and x: ``x``, the share ``p``, its counts ``k`` and ``n`` (may be unknown).
        look: Colors and markers.
        limits: Given for a log-odds axis: shares of 0 and 1 become open markers on the axis' edges.
    """
    if points.empty:
        return
    points = points.sort_values(["x", "p"], kind="stable")
    x = points["x"].to_numpy(float) * look.dodge + look.shift
    groups = points.assign(x=x).groupby("x", sort=True)
    middle = groups["p"].median()
    ax.plot(middle.index, place(middle, limits), color=look.color, linestyle=look.line, zorder=look.zorder)
    wide = groups["p"].count() >= BAND_SEEDS
    if wide.any():
        low, high = place(groups["p"].min()[wide], limits), place(groups["p"].max()[wide], limits)
        ax.fill_between(middle.index[wide], low, high, color=look.color, alpha=look.band, linewidth=0, zorder=1)
    alone = points[groups["p"].transform("count").to_numpy() == 1]
    draw_intervals(ax, alone, look, limits=limits)
    draw_points(ax, x, points["p"], look, limits=limits)


def place(shares: Any, limits: tuple[float, float] | None) -> np.ndarray:
    """Shares as y coordinates; on a log-odds axis those beyond its ends are put on the ends."""
    values = np.asarray(shares, dtype=float)
    return values if limits is None else np.clip(log10_odds(values), *limits)


def draw_points(ax: Axes, x: Any, shares: Any, look: Look, *, limits: tuple[float, float] | None = None) -> None:
    """Points; on a log-odds axis 0 and 1 are open markers on its edges."""
    x, p = np.asarray(x, dtype=float), np.asarray(shares, dtype=float)
    edge = ((p <= 0) | (p >= 1)) if limits is not None else np.full(p.shape, look.hollow)
    style: dict[str, Any] = {"linestyle": "", "marker": look.marker, "color": look.color, "zorder": look.zorder + 1}
    style["markersize"] = look.size
    ax.plot(x[~edge], place(p[~edge], limits), markeredgecolor="white", markeredgewidth=0.35, **style)
    if edge.any():
        ax.plot(x[edge], place(p[edge], limits), markerfacecolor="white", clip_on=False, **style)


def draw_intervals(ax: Axes, points: pd.DataFrame, look: Look, *, limits: tuple[float, float] | None = None) -> None:
    """Wilson 95 % intervals of points whose counts are known."""
    known = points[points["k"].notna() & points["n"].notna()]
    if known.empty:
        return
    low, high = wilson(known["k"], known["n"])
    x = known["x"].to_numpy(float) * look.dodge + look.shift
    ax.vlines(
        x, place(low, limits), place(high, limits), color=look.color, linewidth=0.8, alpha=0.65, zorder=look.zorder
    )


def wilson(successes: pd.Series, trials: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the Wilson 95 % intervals; NaN where a count is unknown."""
    low, high = proportion_confint(successes.to_numpy(float), trials.to_numpy(float), method="wilson")
    return np.asarray(low), np.asarray(high)


def as_points(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    """Attack rows as the points of :func:`draw_seeds`."""
    return pd.DataFrame({"x": rows[x], "p": rows["asr"], "k": rows["n_success"], "n": rows["n_attacked"]})


def spread_keys(groups: list[pd.Series]) -> list[Entry]:
    """Legend entries for what is drawn, given the number of seeds at each x of every series."""
    counts = pd.concat(groups) if groups else pd.Series(dtype=int)
    entries = [point_key("each seed")]
    if (counts >= BAND_SEEDS).any():
        entries.append(band_key("min–max of seeds"))
    if (counts == 1).any():
        entries.append(interval_key("95% interval (one seed)"))
    return entries


def dodges(n: int, step: float = 1.035) -> list[float]:
    """Factors that set ``n`` series beside each other on a log axis."""
    return [step ** (i - (n - 1) / 2) for i in range(n)]


def shifts(n: int, width: float = 0.3) -> list[float]:
    """Offsets that set ``n`` series beside each other around a whole number."""
    return [0.0] if n == 1 else [width * (i / (n - 1) - 0.5) for i in range(n)]
