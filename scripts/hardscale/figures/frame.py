"""Small multiples: a grid of panels of one size, one legend below that never covers data."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hardscale.figures.style import GREY, PANEL_HEIGHT, PANEL_WIDTH, new_figure

Entry = tuple[Line2D | Patch, str]

#: Width and height of a panel in inches by number of columns: a figure is never wider than a page's two columns.
_PANEL = {
    1: (PANEL_WIDTH, PANEL_HEIGHT),
    2: (PANEL_WIDTH, PANEL_HEIGHT),
    3: (2.4, 2.0),
    4: (1.85, 1.9),
    5: (1.5, 1.75),
}
_LEGEND_ROW = 0.19  # inches
_LETTER = 0.066  # inches, mean width of a letter of the legend
_TITLE_LETTER = 0.078  # inches, of a title
_X_LABEL = 0.2  # inches, a line under all panels
_TITLE_LINE = 0.15  # inches
_HANDLE = 0.52  # inches, a handle with its gaps


class Panels:
    """The axes of a figure, row by row, and what is written around them."""

    def __init__(
        self,
        n_panels: int,
        entries: Sequence[Entry],
        columns: int | None = None,
        titles: Sequence[Sequence[str]] = (),
        size: tuple[float, float] | None = None,
    ) -> None:
        """A figure with ``n_panels`` axes, their titles (parts of a line) and a legend of ``entries`` under them.

        ``size`` is the width and height of a panel in inches where it is not to follow from the number of columns.
        """
        self.columns = columns or n_columns(n_panels)
        self.panel_width, panel_height = size or _PANEL[self.columns]
        wrapped = _wrap_titles(titles, int(self.panel_width / _TITLE_LETTER) - 4)
        panel_height += _TITLE_LINE * (max((text.count("\n") for text in wrapped), default=0))
        rows, width = -(-n_panels // self.columns), self.columns * self.panel_width
        ncols = _legend_columns([label for _, label in entries], width)
        above, below = rows * panel_height + 0.2, -(-len(entries) // ncols) * _LEGEND_ROW + 0.1
        self._above = above
        self._below = below
        self.figure: Figure = new_figure(width, above + below)
        self._reserve(below)
        axes = list(self.figure.subplots(rows, self.columns, squeeze=False).flat)
        for spare in axes[n_panels:]:
            spare.remove()
        self.axes: list[Axes] = axes[:n_panels]
        for ax, text in zip(self.axes, wrapped, strict=False):
            ax.set_title(text)
        legend = self.figure.legend(
            [handle for handle, _ in entries],
            [label for _, label in entries],
            loc="lower center",
            ncols=ncols,
            columnspacing=1.3,
            handlelength=1.9,
            handletextpad=0.5,
            labelspacing=0.25,
            borderpad=0.2,
            borderaxespad=0.2,
        )
        legend.set_in_layout(False)

    def _reserve(self, below: float) -> None:
        """Keep the panels out of the lowest ``below`` inches."""
        floor = below / (self._above + self._below)
        self.figure.set_layout_engine("constrained", rect=(0, floor, 1, 1 - floor))

    @property
    def most_ticks(self) -> int:
        """Tick labels that fit side by side under a panel."""
        return {1: 5, 2: 5, 3: 4, 4: 3, 5: 2}[self.columns]

    def label(self, xlabels: Sequence[str], ylabel: str, *, shared_y: bool = True) -> None:
        """One label for all x axes (a label a panel where they differ), one for all y axes.

        With ``shared_y`` all panels have the same y axis and only those on the left show its numbers.
        """
        if not any(xlabels):
            pass
        elif len(set(xlabels)) == 1:
            self._reserve(self._below + _X_LABEL)
            height = self._below / (self._above + self._below)
            self.figure.supxlabel(xlabels[0], fontsize=9, y=height, va="bottom").set_in_layout(False)
        else:
            for ax, text in zip(self.axes, xlabels, strict=True):
                ax.set_xlabel(textwrap.fill(text, int(self.panel_width / _TITLE_LETTER) - 4))
        self.figure.supylabel(textwrap.fill(ylabel, int(self._above / _TITLE_LETTER)), fontsize=9)
        for i, ax in enumerate(self.axes):
            if shared_y and i % self.columns:
                ax.tick_params(labelleft=False)


def n_columns(n_panels: int) -> int:
    """One panel alone, two or four in two columns, else three."""
    return {1: 1, 2: 2, 4: 2}.get(n_panels, 3)


def _wrap_titles(titles: Sequence[Sequence[str]], width: int) -> list[str]:
    """Titles on one line where all fit, else all of them broken after their first part and wherever a line is full."""
    parts = [[part for part in title if part] for title in titles]
    if all(len(" · ".join(title)) <= width for title in parts):
        return [" · ".join(title) for title in parts]
    return ["\n".join([title[0], *_lines(title[1:], width)]) for title in parts if title]


def _lines(parts: Sequence[str], width: int) -> list[str]:
    """Parts joined by dots into lines of at most ``width`` letters; a longer part is broken at its spaces."""
    lines: list[str] = []
    for part in parts:
        if len(part) > width:
            lines += _broken(part, width)
        elif lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines


def _broken(part: str, width: int) -> list[str]:
    """A part in lines of at most ``width`` letters; what stands in parentheses stays together."""
    together = re.sub(r"\([^()]*\)", lambda found: found[0].replace(" ", "\xa0"), part)
    lines = textwrap.wrap(together, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """The most columns that fit; legends fill column by column, so each is as wide as its longest label."""
    for columns in range(len(labels), 1, -1):
        rows = -(-len(labels) // columns)
        if -(-len(labels) // rows) != columns:
            continue
        blocks = [labels[i : i + rows] for i in range(0, len(labels), rows)]
        if sum(max(map(len, block)) * _LETTER + _HANDLE for block in blocks) <= width - 0.1:
            return columns
    return 1


def varying(keys: Sequence[tuple[str, ...]], index: int) -> bool:
    """Whether the panels differ in this part of their keys."""
    return len({key[index] for key in keys}) > 1


def line_key(label: str, color: Any = GREY, style: Any = "-", marker: str = "", *, width: float = 1.3) -> Entry:
    """Legend entry of a line."""
    return Line2D([], [], color=color, linestyle=style, marker=marker, linewidth=width), label


def point_key(label: str, color: Any = GREY, marker: Any = "o", *, hollow: bool = False, size: float = 4.0) -> Entry:
    """Legend entry of a point."""
    face = "white" if hollow else color
    return Line2D([], [], color=color, linestyle="", marker=marker, markersize=size, markerfacecolor=face), label


def band_key(label: str) -> Entry:
    """Legend entry of a band."""
    return Patch(facecolor=GREY, alpha=0.25, linewidth=0), label


def interval_key(label: str) -> Entry:
    """Legend entry of an interval."""
    return point_key(label, marker="|", size=8)
