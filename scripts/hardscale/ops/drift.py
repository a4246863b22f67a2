"""The drift record of a study: one row for each thing that a run of cron compared, appended run by run."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import itertools
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.digest import ROOT, code_digest
from hardscale.artifacts.publish import versions
from hardscale.artifacts.tables import read_table, write_table
from hardscale.figures.frame import line_key, point_key
from hardscale.figures.style import GREY, PANEL_WIDTH, in_style, new_figure, plain
from hardscale.ops.outcome import DAMAGED, DRIFT, OK, Finding, exit_status
from hardscale.runtime.processor import processor

# Not with the other tables' columns in artifacts.schemas: that module belongs to the code of every job, and a column
# more of this table would make every study anew.
#: Columns of drift/drift.parquet. ``changes``: what differs since the pin, as ``torch 2.13.0 -> 2.14.0``.
DRIFT_RECORD = pa.schema(
    [
        pa.field("date", pa.timestamp("s", tz="UTC"), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("what", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("expected", pa.string()),
        pa.field("found", pa.string()),
        pa.field("max_difference", pa.float64()),
        pa.field("changes", pa.list_(pa.string()), nullable=False),
        pa.field("seed", pa.int64()),
        pa.field("exit", pa.int64(), nullable=False),
    ]
)
#: Rows of one run: a study of which every artifact is damaged needs no longer list.
MOST_ROWS = 500


MODES = ("full", "sample", "check")
_LOOK = {OK: ("same", "#009E73", "o"), DRIFT: ("drift", "#D55E00", "X"), DAMAGED: ("damaged or failed", "#0072B2", "s")}
_HEIGHT = 1.9  # inches
#: Besides the packages that every manifest names.
_PACKAGES = ("snakemake", "submitit", "pandas", "statsmodels", "safetensors", "matplotlib", "english-words")
_PARTS = ("artifacts", "tasks", "models", "attacks", "training", "evaluation", "analysis")
_NONE = "none"


def append(
    path: Path,
    date: datetime.datetime,
    mode: str,
    findings: Sequence[Finding],
    changes: Sequence[str],
    seed: int | None = None,
) -> pa.Table:
    """Append a run to the record; the whole record.

    Raises:
        DataError: the record is there but cannot be read.
        ArtifactError: it cannot be written.
    """
    ordered = sorted(findings, key=lambda finding: finding.good)
    rows = [
        {
            "date": date,
            "mode": mode,
            "what": finding.what,
            "status": finding.status,
            "expected": finding.expected or None,
            "found": finding.found or None,
            "max_difference": finding.max_difference,
            "changes": list(changes),
            "seed": seed,
            "exit": exit_status(findings),
        }
        for finding in ordered[:MOST_ROWS]
    ]
    before = read_table(path, DRIFT_RECORD) if path.is_file() else DRIFT_RECORD.empty_table()
    table = pa.concat_tables([before, pa.Table.from_pylist(rows, schema=DRIFT_RECORD)])
    with replacing(path) as draft:
        write_table(draft, table, DRIFT_RECORD)
    return table


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


def host_facts() -> dict[str, str]:
    """Facts of this machine and its environment, by name."""
    facts = versions()
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[name] = importlib.metadata.version(name)
    gpu, driver = _gpu()
    return {
        **facts,
        "CPU": processor(),
        "GPU": gpu,
        "driver": driver,
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(part for part in platform.libc_ver() if part) or _NONE,
        "machine": platform.machine(),
        "code": code(),
    }


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """``torch 2.13.0 -> 2.14.0`` for every fact that differs, in a fixed order."""
    names = sorted({*before, *now}, key=str.lower)
    pairs = [(name, before.get(name, _NONE), now.get(name, _NONE)) for name in names]
    return [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]


def has_gpu(facts: dict[str, str]) -> bool:
    """Whether facts name a GPU."""
    return facts.get("GPU", _NONE) != _NONE


def code() -> str:
    """Digest of all of our code that makes numbers."""
    modules = []
    for part in _PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            if path.name != "__init__.py":
                modules.append(".".join([ROOT.name, *path.relative_to(ROOT).with_suffix("").parts]))
    return code_digest(*modules)


def _gpu() -> tuple[str, str]:
    """Names of the GPUs that are seen here, and the version of their driver."""
    if shutil.which("nvidia-smi") is None:
        return _NONE, _NONE
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return _NONE, _NONE
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 1]
    if done.returncode or not rows:
        return _NONE, _NONE
    names = Counter(name for name, _ in rows)
    return ", ".join(f"{count} x {name}" for name, count in sorted(names.items())), rows[0][1]
