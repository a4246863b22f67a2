"""The status of a study as data and as text."""

from __future__ import annotations

import argparse
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hardscale.errors import StudyError
from hardscale.ops.cli import DEFAULT_STUDY, study_from_files
from hardscale.ops.job_state import DONE, FAILED, QUEUED, RUNNING, STATES, Seen, Survey
from hardscale.ops.snakemake_metadata import SNAKEMAKE
from hardscale.plan.jobs import Jobs
from hardscale.plan.steps import PlannedJob
from hardscale.plan.table import FIGURES, PHASES, TABLES, TASKS
from hardscale.runtime.console import printable

_SHOWN = 20


#: Phases whose jobs take seconds to minutes; they are left out.
_LIGHT = frozenset({TASKS, TABLES, FIGURES})
_SHOWN_KINDS = 3


def status(survey: Survey) -> dict[str, Any]:
    """What ``--json`` prints.

    Returns:
        ``study directory time controller slurm_problem``; ``phases``: phase -> state -> number of jobs; ``running`` and
        ``queued``: ``job phase slurm_id node reason progress``; ``failed``: ``job phase error log``; ``estimate``:
        ``seconds work_seconds parallel why_unknown``.
    """
    counts = Counter((seen.step.phase, seen.state) for seen in survey.seen)
    phases = {phase: {state: counts[phase, state] for state in STATES} for phase in PHASES}
    controller = survey.controller
    return {
        "study": survey.jobs.study.name,
        "directory": str(Path.cwd()),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "controller": None if controller is None else {"alive": controller.alive, "who": controller.text},
        "slurm_problem": survey.slurm.problem or None,
        "phases": {phase: found for phase, found in phases.items() if sum(found.values())},
        "running": [_live(seen) for seen in survey.steps(RUNNING)],
        "queued": [_live(seen) for seen in survey.steps(QUEUED)],
        "failed": [
            {"job": seen.step.label, "phase": seen.step.phase, "error": seen.error, "log": _log(seen.step)}
            for seen in survey.steps(FAILED)
        ],
        "estimate": asdict(estimate(survey.seen)),
    }


def _log(step: PlannedJob) -> str:
    """The log of a failed job; Slurm's own, when it failed before it could write one."""
    if Path(step.log).exists():
        return step.log
    folder = SNAKEMAKE / "slurm_logs" / f"rule_{step.rule}" / step.name.replace("/", "_")
    return str(max(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, default=step.log))


def _live(seen: Seen) -> dict[str, Any]:
    assert seen.live is not None
    facts = {key: value for key, value in asdict(seen.live).items() if key != "state"}
    return {"job": seen.step.label, "phase": seen.step.phase, **facts}


def render(facts: dict[str, Any]) -> str:
    """:func:`status` for a terminal. Lines of jobs' logs cannot move the cursor."""
    parts = [f"{facts['study']} in {facts['directory']}, {facts['time'].replace('T', ' ')[:19]}", _controller(facts)]
    parts += ["", _counts(facts["phases"])]
    for title in (RUNNING, QUEUED):
        parts += _listed(title, [_live_line(job) for job in facts[title]])
    parts += _listed("failed", [f"{job['job']}\n      {job['error']}\n      {job['log']}" for job in facts["failed"]])
    parts += ["", _eta(Estimate(**facts["estimate"]), facts["phases"])]
    return printable("\n".join(parts))


def _controller(facts: dict[str, Any]) -> str:
    found = facts["controller"]
    how = {True: "lives", False: "is dead; the next run takes over", None: "unknown from this host"}
    line = "controller: none" if found is None else f"controller: {found['who']}: {how[found['alive']]}"
    return line + (f"\n{facts['slurm_problem']}: what runs is not known" if facts["slurm_problem"] else "")


def _counts(phases: dict[str, dict[str, int]]) -> str:
    rows = [[phase, *found.values(), sum(found.values())] for phase, found in phases.items()]
    totals = [sum(found[state] for found in phases.values()) for state in STATES]
    return table(["", *STATES, "total"], [*rows, ["all", *totals, sum(totals)]])


def _listed(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"  and {len(lines) - _SHOWN} more (--json lists all)"] if len(lines) > _SHOWN else []
    return ["", title, *[f"  {line}" for line in lines[:_SHOWN]], *more]


def _live_line(job: dict[str, Any]) -> str:
    said = job["progress"].split("] ", 1)[-1]
    place = " ".join(filter(None, [str(job["slurm_id"] or ""), job["node"]])) or "here"
    return "  ".join(filter(None, [place, job["job"], job["reason"], said]))


def _eta(found: Estimate, phases: dict[str, dict[str, int]]) -> str:
    if all(not number for states in phases.values() for state, number in states.items() if state != "done"):
        return "finished"
    if found.seconds is None:
        return f"ETA unknown: {found.why_unknown}"
    assert found.work_seconds is not None and found.parallel is not None
    running = any(states[RUNNING] for states in phases.values())
    begin = "ETA" if running else "nothing runs; once it does, about"
    work = f"{duration(found.work_seconds)} of work, {found.parallel:.3g} at a time"
    return f"{begin} {duration(found.seconds)} ({work}; tables and figures not counted)"


@dataclass(frozen=True)
class Estimate:
    """What is left.

    Attributes:
        seconds: until the last job ends; None when unknown.
        work_seconds: of all jobs that are left, one after another; None when unknown.
        parallel: jobs at a time that ``seconds`` counts with; None when none was ever seen.
        why_unknown: the kinds of jobs of which none has finished yet.
    """

    seconds: float | None
    work_seconds: float | None
    parallel: float | None
    why_unknown: str = ""


@dataclass(frozen=True)
class Timing:
    """A finished job: when it ended (seconds of the epoch) and how long it took."""

    end: float
    seconds: float


def estimate(seen: Sequence[Seen]) -> Estimate:
    """Time left: remaining work by the number of jobs that run at once, at least the longest chain of jobs left."""
    heavy = [one for one in seen if one.step.phase not in _LIGHT]
    timings = {one.step.label: timing for one in heavy if one.state == DONE and (timing := read_timing(one.step))}
    known = _seconds_by_kind([(one.step, timings[one.step.label]) for one in heavy if one.step.label in timings])
    left = [one.step for one in heavy if one.state != DONE]
    parallel = _parallel(heavy, list(timings.values()))
    unknown = Counter(step.kind for step in left if step.kind not in known)
    if unknown:
        names = [f"{' '.join(kind)} ({count} left)" for kind, count in unknown.most_common(_SHOWN_KINDS)]
        more = f" and {len(unknown) - _SHOWN_KINDS} more kinds" if len(unknown) > _SHOWN_KINDS else ""
        return Estimate(None, None, parallel, f"no finished job yet of {', '.join(names)}{more}")
    costs = {step.label: known[step.kind] * step.units for step in left}
    work = sum(costs.values())
    if not left:
        return Estimate(0.0, 0.0, parallel)
    if parallel is None:
        return Estimate(None, work, None, "no job was seen running")
    return Estimate(max(work / parallel, _longest_chain(left, costs)), work, parallel)


def read_timing(step: PlannedJob) -> Timing | None:
    """A job's benchmark; None without one. Of a resumed job it tells the last part only."""
    try:
        with open(step.benchmark, "rb") as file:  # noqa: PTH123 - of thousands of jobs
            header, values, *_ = file.read().splitlines()
            end = os.fstat(file.fileno()).st_mtime
        return Timing(end, float(values.split(b"\t")[header.split(b"\t").index(b"s")]))
    except (OSError, ValueError, IndexError):
        return None


def _seconds_by_kind(finished: Sequence[tuple[PlannedJob, Timing]]) -> dict[tuple[str, ...], float]:
    """Kind -> median seconds of a unit."""
    found: dict[tuple[str, ...], list[float]] = {}
    for step, timing in finished:
        found.setdefault(step.kind, []).append(timing.seconds / step.units)
    return {kind: statistics.median(values) for kind, values in found.items()}


def _parallel(seen: Sequence[Seen], timings: list[Timing]) -> float | None:
    """Jobs at a time: those that run now, else the mean over the time in which finished ones ran."""
    running = sum(one.state == RUNNING for one in seen)
    if running:
        return float(running)
    if not timings:
        return None
    spans = sorted((timing.end - timing.seconds, timing.end) for timing in timings)
    covered, reached = 0.0, spans[0][0]
    for start, end in spans:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return max(1.0, sum(timing.seconds for timing in timings) / covered) if covered else None


def _longest_chain(left: Sequence[PlannedJob], costs: dict[str, float]) -> float:
    """Seconds of the longest chain of jobs that wait for each other; jobs come in the order of the workflow."""
    ready: dict[str, float] = {}
    for step in left:
        end = max((ready.get(path, 0.0) for path in step.inputs), default=0.0) + costs[step.label]
        ready.update(dict.fromkeys(step.outputs, end))
    return max(ready.values(), default=0.0)


def size(n_bytes: float) -> str:
    """Bytes with a unit of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"


def duration(seconds: float) -> str:
    """Days, hours and minutes; below an hour minutes, below a minute seconds."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns under their heads: the first to the left, the others to the right."""
    cells = [list(head), *[[str(value) for value in row] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with ``--study`` and ``--directory``."""
    command = argparse.ArgumentParser(description=description)
    command.add_argument("--study", type=Path, default=Path(DEFAULT_STUDY), help=f"default: {DEFAULT_STUDY}")
    command.add_argument("--directory", type=Path, help="working directory of the run, as given to Snakemake")
    return command


def enter(args: argparse.Namespace) -> Jobs:
    """The jobs of the study that was asked for; from here on its working directory is this process's.

    Raises:
        StudyError: there is no such directory.
    """
    jobs = Jobs(study_from_files([args.study]))
    try:
        os.chdir(args.directory or Path())
    except OSError as error:
        raise StudyError(
            f"--directory {args.directory}: {error.strerror}; give the folder that holds results/"
        ) from error
    return jobs
