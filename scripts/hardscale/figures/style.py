"""The one style of every figure: type, sizes, colors and how a figure becomes bytes.

Panels of 3.5 x 2.5 inches in 9 pt serif, as wide as a journal column. All fonts ship with matplotlib and all metadata
that changes from run to run is left out, so the same tables give the same PNG, SVG and PDF bytes.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hardscale.untrusted.literal import one_line

PANEL_WIDTH, PANEL_HEIGHT = 3.5, 2.5
DPI = 200
GREY = "0.45"

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Serif",
    "mathtext.fontset": "dejavuserif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "svg.hashsalt": "hardscale",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "axes.unicode_minus": True,
    "text.usetex": False,
    # No name is a formula: only ticks are (axes.formula_ticks), and those are our own.
    "text.parse_math": False,
}

#: Okabe and Ito's colors, told apart with any common kind of color blindness; black and yellow are kept out.
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_TASK_COLORS = {
    "imdb": "#0072B2",
    "spam": "#D55E00",
    "password_match": "#009E73",
    "word_length": "#CC79A7",
    "helpful": "#E69F00",
    "harmless": "#56B4E9",
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))


@contextmanager
def styled() -> Iterator[None]:
    """Everything drawn or saved inside has this style, whatever the user's own matplotlib settings are."""
    rc: dict[Any, Any] = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith(("backend", "date."))}
    with mpl.rc_context(rc | STYLE):
        yield


def in_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator of a figure's ``draw``: runs it inside :func:`styled` and fixes the layout of what it returns."""

    @functools.wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Figure:
        with styled():
            figure = draw(*args, **kwargs)
            _fix_layout(figure)
            return figure

    return wrapper


def _fix_layout(figure: Figure) -> None:
    """Lay the panels out once and round their positions.

    The solver behind matplotlib's constrained layout takes its unknowns in no fixed order, so that positions differ in
    their last bits from one drawing to the next, and with them every coordinate and clip path of an SVG.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        left, bottom, width, height = (round(float(value), 5) for value in ax.get_position().bounds)
        ax.set_position((left, bottom, width, height))


def save(figure: Figure, png: Path | None = None, svg: Path | None = None, pdf: Path | None = None) -> None:
    """Write a figure; the same figure gives the same bytes."""
    kinds: list[tuple[Path | None, str, dict[str, None]]] = [
        (png, "png", {"Software": None}),
        (svg, "svg", {"Date": None, "Creator": None}),
        (pdf, "pdf", {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None}),
    ]
    with styled():
        for path, kind, metadata in kinds:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, format=kind, metadata=metadata)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with an Agg canvas and constrained layout."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def message_figure(text: str) -> Figure:
    """A panel that says in words why there is nothing to show."""
    figure = new_figure(PANEL_WIDTH, PANEL_HEIGHT)
    body = "\n".join(textwrap.fill(line, 44) for line in text.split("\n"))
    figure.text(0.5, 0.5, body, ha="center", va="center", color="0.25", linespacing=1.5)
    return figure


def plain(text: object, limit: int = 36) -> str:
    """A string from the data as a label: on one line, no control characters, not longer than ``limit``."""
    clean = one_line(str(text))
    clean = clean if len(clean) <= limit else clean[: limit - 1] + "…"
    # Labels that start with an underscore are left out of legends by matplotlib.
    return f" {clean}" if clean.startswith("_") else clean


def scale_colors(family: str, n: int) -> list[Any]:
    """``n`` colors from dark (small) to light (large): magma for Qwen, viridis for every other family."""
    colors = mpl.colormaps["magma" if family.lower().startswith("qwen") else "viridis"]
    top = 0.82 if family.lower().startswith("qwen") else 0.88
    return [colors(0.05 + (top - 0.05) * (i / (n - 1) if n > 1 else 0.4)) for i in range(n)]


def task_colors(tasks: list[str]) -> dict[str, str]:
    """A color for every task: the six of the paper always have the same one."""
    spare = [color for color in _OKABE_ITO if color not in {_TASK_COLORS.get(task) for task in tasks}]
    others = [task for task in tasks if task not in _TASK_COLORS]
    cycle = spare or list(_OKABE_ITO)
    extra = {task: cycle[i % len(cycle)] for i, task in enumerate(others)}
    return {task: _TASK_COLORS.get(task) or extra[task] for task in tasks}


def attack_colors(attacks: list[str]) -> dict[str, str]:
    """A color for every attack, in the order given."""
    return {attack: _OKABE_ITO[i % len(_OKABE_ITO)] for i, attack in enumerate(attacks)}
