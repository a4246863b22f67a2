"""The drift record as a small figure: when each mode ran and how it ended, and when the environment changed."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from hardscale.figures.frame import line_key, point_key
from hardscale.figures.style import GREY, PANEL_WIDTH, in_style, new_figure, plain
from hardscale.ops.outcome import DAMAGED, DRIFT, OK

MODES = ("full", "sample", "check")
_LOOK = {OK: ("same", "#009E73", "o"), DRIFT: ("drift", "#D55E00", "X"), DAMAGED: ("damaged or failed", "#0072B2", "s")}
_HEIGHT = 1.9  # inches


@in_style
def draw(record: pa.Table, study: str) -> Figure:
    """One point a run, a line of points a mode; a vertical line where the list of changes differs from before."""
    runs = _runs(record)
    figure = new_figure(PANEL_WIDTH + 0.8, _HEIGHT)
    ax = figure.subplots()
    for exit_code, (_, color, marker) in _LOOK.items():
        points = [run for run in runs if run["exit"] == exit_code]
        places = [MODES.index(run["mode"]) for run in points]
        ax.plot([run["date"] for run in points], places, linestyle="", marker=marker, color=color, markersize=5)
    changed = [now["date"] for before, now in itertools.pairwise(runs) if before["changes"] != now["changes"]]
    for date in changed:
        ax.axvline(date, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.2)))
    ax.set_yticks(range(len(MODES)), labels=list(MODES))
    ax.set_ylim(-0.6, len(MODES) - 0.4)
    ax.margins(x=0.08)
    locator = AutoDateLocator(minticks=2, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_title(f"{plain(study)}: reproduction over time")
    entries = [point_key(label, color, marker, size=5) for label, color, marker in _LOOK.values()]
    entries.append(line_key("environment or code changed", GREY, (0, (1, 1.2)), width=0.8))
    handles, labels = zip(*entries, strict=True)
    figure.legend(handles, labels, loc="outside lower center", ncols=2, columnspacing=1.3, handletextpad=0.5)
    return figure


def _runs(record: pa.Table) -> list[dict[str, Any]]:
    """One row a run, in order of time; runs of modes that are not known here are left out."""
    runs = {(row["date"], row["mode"]): row for row in record.to_pylist() if row["mode"] in MODES}
    return [runs[key] for key in sorted(runs)]
