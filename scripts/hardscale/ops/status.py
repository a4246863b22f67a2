"""The status of a study as data and as text."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from hardscale.ops.job_state import FAILED, QUEUED, RUNNING, STATES, Seen, Survey
from hardscale.ops.snakemake_metadata import SNAKEMAKE
from hardscale.plan.steps import PHASES, Step
from hardscale.runtime.console import printable
from hardscale.upkeep.estimate import Estimate, estimate
from hardscale.upkeep.text import duration, table

_SHOWN = 20


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


def _log(step: Step) -> str:
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
    """:func:`status` for a terminal. Lines of jobs' logs can not move the cursor."""
    parts = [f"{facts['study']} in {facts['directory']}, {facts['time'].replace('T', ' ')[:19]}", _controller(facts)]
    parts += ["", _counts(facts["phases"])]
    for title in (RUNNING, QUEUED):
        parts += _listed(title, [_live_line(job) for job in facts[title]])
    parts += _listed("failed", [f"{job['job']}\n      {job['error']}\n      {job['log']}" for job in facts["failed"]])
    parts += ["", _eta(Estimate(**facts["estimate"]), facts["phases"])]
    return printable("\n".join(parts))


def _controller(facts: dict[str, Any]) -> str:
    found = facts["controller"]
    how = {True: "lives", False: "is dead; the next run takes over", None: "can not be seen from here"}
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
