"""Mode ``full``: the whole study from nothing in a dated folder, then its tables against the reference."""

from __future__ import annotations

import datetime
from pathlib import Path

from hardscale.artifacts import paths
from hardscale.errors import DataError
from hardscale.ops.outcome import FAILED, MISSING, Finding
from hardscale.ops.rates import FALSE_ALARM_RATE, compare_rates, paired, table_rates
from hardscale.ops.reference import Reference, check_tables
from hardscale.ops.scratch import RUNS, Workflow, last_error, link_surroundings

_RUNS_TABLE = "runs.parquet"


def fresh_folder(directory: Path, root_in: Path, today: datetime.date) -> Path:
    """``runs/<date>``; one that was left unfinished today is resumed, a finished one gets a successor.

    Args:
        directory: the working directory.
        root_in: ``results/<study>``, relative to a working directory.
        today: the date.
    """
    number = 1
    while True:
        folder = directory / RUNS / (today.isoformat() + (f"-{number}" if number > 1 else ""))
        if not paths.table(folder / root_in, "summary.md").is_file():
            return folder
        number += 1


def full(
    workflow: Workflow,
    directory: Path,
    folder: Path,
    root_in: Path,
    reference: Reference,
    log: Path,
    exact: bool = True,
    false_alarm_rate: float = FALSE_ALARM_RATE,
) -> list[Finding]:
    """Run the study in ``folder`` and compare its tables.

    Raises:
        StoppedError: another controller runs in ``folder``.
    """
    link_surroundings(directory, folder)
    start = log.stat().st_size if log.is_file() else 0
    status = workflow.run(folder, log, ["--rerun-incomplete", "--keep-going"])
    if status:
        words = last_error(log, start) or f"snakemake ended with status {status}"
        return [Finding("the whole study", FAILED, "finished", words)]
    if exact:
        return check_tables(folder / root_in, reference)
    return _by_rates(folder / root_in, reference, false_alarm_rate)


def _by_rates(root: Path, reference: Reference, false_alarm_rate: float) -> list[Finding]:
    what, pinned = f"tables/{_RUNS_TABLE}", reference.table(_RUNS_TABLE)
    if pinned is None:
        return [Finding(what, MISSING, "a copy of the pinned table", "nothing; pin again with --replace")]
    try:
        expected, found = table_rates(pinned), table_rates(paths.table(root, _RUNS_TABLE))
    except DataError as error:
        return [Finding(what, FAILED, "a table of runs", str(error))]
    gone = [Finding(f"{what}: {name}", MISSING, "a rate", "nothing") for name in expected if name not in found]
    return [*gone, *compare_rates(paired(expected, found), false_alarm_rate)]
