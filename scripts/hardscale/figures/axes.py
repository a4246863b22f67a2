"""Axes: ticks of log and log-odds axes, numbers as text, and a place for zero on a log axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from hardscale.analysis.logodds import log10_odds

LOGIT_TICKS = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
_SUBDIVISIONS = (
    (1.0,),
    (1.0, 3.0),
    (1.0, 2.0, 5.0),
    (1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
    tuple(1 + 0.5 * i for i in range(18)),
)


def logit_limits(shares: Iterable[float]) -> tuple[float, float]:
    """Limits of a log-odds axis that hold every share strictly between 0 and 1, with room beyond."""
    values = log10_odds([p for p in shares if 0 < p < 1])
    low, high = (float(values.min()), float(values.max())) if values.size else (-1.0, 1.0)
    center, half = (low + high) / 2, max((high - low) / 2 * 1.12, 0.6)
    return center - half, center + half


def logit_axis(ax: Axes, limits: tuple[float, float]) -> None:
    """A y axis in log-odds whose ticks are shares."""
    shown = [p for p in LOGIT_TICKS if limits[0] <= log10_odds(p) <= limits[1]]
    ax.set_ylim(*limits)
    ax.yaxis.set_major_locator(FixedLocator(log10_odds(shown).tolist()))
    ax.yaxis.set_major_formatter(FixedFormatter([f"{p:.2f}".removeprefix("0") for p in shown]))
    ax.yaxis.set_minor_locator(NullLocator())


def share_axis(ax: Axes) -> None:
    """A y axis from 0 to 1 with room for markers at both ends."""
    ax.set_ylim(-0.025, 1.025)
    ax.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    ax.yaxis.set_major_formatter(FixedFormatter(["0", ".25", ".50", ".75", "1"]))


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most ``most`` round numbers between two positive ones, far enough apart for labels.

    Whole decades when the range has three or more (every second, third … one where there are too many), else the
    coarsest of 1-3, 1-2-5, … that gives three, else two decades, else what fits of evenly spaced numbers.
    """
    first, last = int(np.ceil(np.log10(low) - 1e-9)), int(np.floor(np.log10(high) + 1e-9))
    decades = [10.0**e for e in range(first, last + 1)]
    if len(decades) >= 3:
        return decades[:: -(-len(decades) // most)]
    gap = (high / low) ** (0.7 / most)
    inside: list[float] = []
    for subdivision in _SUBDIVISIONS:
        ticks = [s * 10.0**e for e in range(first - 1, last + 1) for s in subdivision]
        inside = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        apart = all(b >= a * gap for a, b in pairwise(inside))
        if min(3, most) <= len(inside) <= most and apart:
            return inside
    if len(decades) == 2:
        return decades
    linear = MaxNLocator(nbins=max(most - 1, 2), steps=[1, 2, 5, 10]).tick_values(low, high)
    some = _spaced([float(t) for t in linear if low <= t <= high], gap)
    return (some if len(some) >= 2 else _spaced(inside, gap))[:most]


def _spaced(ticks: Sequence[float], gap: float) -> list[float]:
    """The first tick, and of the others each that is at least a factor ``gap`` above the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick >= kept[-1] * gap:
            kept.append(tick)
    return kept


def readable(ticks: Sequence[float], labels: Sequence[str], room: float) -> list[float]:
    """The first tick, and of the others each whose label does not touch the one before.

    ``room`` is what a label such as ``3·10^12`` takes, in decades.
    """
    kept: list[tuple[float, float]] = []
    for tick, label in zip(ticks, labels, strict=True):
        needed = room * _length(label) / _length(power_label(3e12))
        if not kept or np.log10(tick / kept[-1][0]) >= (needed + kept[-1][1]) / 2:
            kept.append((tick, needed))
    return [tick for tick, _ in kept]


def _length(label: str) -> float:
    """About how many characters wide a label is; those of an exponent are smaller."""
    base, _, exponent = label.replace(r"{\cdot}", "·").strip("$").partition("^")
    return len(base) + 0.7 * len(exponent.strip("{}"))


def power_label(value: float) -> str:
    """``10^12`` or ``3·10^12`` as mathtext; numbers between 0.01 and 999 as they are."""
    if 0.01 <= value < 1000:
        return f"{value:.3g}"
    exponent = int(np.floor(np.log10(value) + 1e-9))
    factor = value / 10.0**exponent
    if abs(factor - 1) < 1e-6:
        return f"$10^{{{exponent}}}$"
    return rf"${factor:.3g}{{\cdot}}10^{{{exponent}}}$"


def count_label(value: float) -> str:
    """A number of parameters in three digits: ``35k``, ``7.63M``, ``11.6B``."""
    for unit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit * 0.9995:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.0f}"


def log_axis(ax: Axes, values: ArrayLike, *, counts: bool = False, zero: bool = False, most: int = 5) -> float | None:
    """A log x axis around the positive ``values``; ``counts`` labels them as numbers of parameters.

    At most ``most`` ticks have labels. With ``zero`` there is also a place for 0 left of a dotted line.

    Returns:
        The x coordinate at which 0 is drawn, or none.
    """
    low, high, place = log_range(values, zero)
    span = np.log10(high / low)
    margin = max(0.06 * span, 0.08)
    ax.set_xscale("log")
    ax.set_xlim((place or low) / 10**margin, high * 10**margin)
    ticks = log_ticks(low / 10 ** (margin / 2), high * 10 ** (margin / 2), most - int(zero))
    label_of = count_label if counts else power_label
    left, right = ax.get_xlim()
    ticks = readable(ticks, [label_of(t) for t in ticks], np.log10(right / left) * 0.7 / most)
    labels = [label_of(t) for t in ticks]
    if place is not None:
        ax.axvline(np.sqrt(place * low), color="0.6", linewidth=0.6, linestyle=(0, (1, 2)))
        ticks, labels = [place, *ticks], ["0", *labels]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FixedFormatter(labels))
    ax.xaxis.set_minor_locator(NullLocator())
    formula_ticks(ax.xaxis, len(ticks))
    return place


def formula_ticks(axis: Axis, n: int) -> None:
    """Let the ``n`` labels of an axis, which are :func:`power_label`'s, be drawn as mathtext; no other text is."""
    for tick in axis.get_major_ticks(n):
        tick.label1.set_parse_math(True)


def log_range(values: ArrayLike, zero: bool = False) -> tuple[float, float, float | None]:
    """Smallest and largest positive value (at least a factor 2 apart) and, with ``zero``, where 0 is drawn."""
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x) & (x > 0)]
    low, high = (float(x.min()), float(x.max())) if x.size else (1.0, 10.0)
    if high < 2 * low:
        middle = np.sqrt(low * high)
        low, high = middle / np.sqrt(2), middle * np.sqrt(2)
    place = low / 10 ** max(0.2, 0.22 * float(np.log10(high / low))) if zero else None
    return low, high, place


def zero_places(zero: float | None, values: ArrayLike, n: int) -> list[float]:
    """The x coordinates of 0 for ``n`` series, side by side around ``zero``."""
    low, high, _ = log_range(values)
    step = 10 ** (0.025 * np.log10(high / low))
    return [float((zero or 1.0) * step ** (i - (n - 1) / 2)) for i in range(n)]


def log_y_axis(ax: Axes, values: ArrayLike, room: float = 0.0) -> None:
    """A log y axis around the positive ``values``, with a share ``room`` of it left free at the top."""
    low, high, _ = log_range(values)
    margin = max(0.08 * np.log10(high / low), 0.1)
    ax.set_yscale("log")
    ax.set_ylim(low / 10**margin, high * 10 ** (margin + room * np.log10(high / low) + 0.6 * room))
    ticks = log_ticks(*ax.get_ylim())
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_formatter(FixedFormatter([power_label(t) for t in ticks]))
    ax.yaxis.set_minor_locator(NullLocator())
    formula_ticks(ax.yaxis, len(ticks))


def round_axis(ax: Axes, last: int) -> bool:
    """An x axis of training rounds 0 to ``last``; from 13 rounds up it is logarithmic in round + 1.

    Returns:
        Whether x is round + 1.
    """
    if last > 12:
        log_axis(ax, [1, last + 1], most=4)
        return True
    ax.set_xlim(-0.35 - 0.02 * last, last + 0.35 + 0.02 * last)
    ax.xaxis.set_major_locator(FixedLocator(range(0, last + 1, 1 if last <= 7 else 2)))
    ax.xaxis.set_minor_locator(NullLocator())
    return False
