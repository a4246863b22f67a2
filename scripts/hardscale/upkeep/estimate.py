"""How long the rest takes: what finished jobs of the same kind took, and how many ran at a time."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hardscale.ops.job_state import DONE, RUNNING, Seen
from hardscale.plan.steps import Step

#: Phases whose jobs take seconds to minutes; they are left out.
_LIGHT = frozenset({"tasks", "tables", "figures"})
_SHOWN = 3


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
    """The rest of a study: work left by the jobs seen at a time, at least the longest chain of jobs left."""
    heavy = [one for one in seen if one.step.phase not in _LIGHT]
    timings = {one.step.label: timing for one in heavy if one.state == DONE and (timing := read_timing(one.step))}
    known = _seconds_by_kind([(one.step, timings[one.step.label]) for one in heavy if one.step.label in timings])
    left = [one.step for one in heavy if one.state != DONE]
    parallel = _parallel(heavy, list(timings.values()))
    unknown = Counter(step.kind for step in left if step.kind not in known)
    if unknown:
        names = [f"{' '.join(kind)} ({count} left)" for kind, count in unknown.most_common(_SHOWN)]
        more = f" and {len(unknown) - _SHOWN} more kinds" if len(unknown) > _SHOWN else ""
        return Estimate(None, None, parallel, f"no finished job yet of {', '.join(names)}{more}")
    costs = {step.label: known[step.kind] * step.units for step in left}
    work = sum(costs.values())
    if not left:
        return Estimate(0.0, 0.0, parallel)
    if parallel is None:
        return Estimate(None, work, None, "no job was seen running")
    return Estimate(max(work / parallel, _longest_chain(left, costs)), work, parallel)


def read_timing(step: Step) -> Timing | None:
    """A job's benchmark; None without one. Of a resumed job it tells the last part only."""
    try:
        with open(step.benchmark, "rb") as file:  # noqa: PTH123 - of thousands of jobs
            header, values, *_ = file.read().splitlines()
            end = os.fstat(file.fileno()).st_mtime
        return Timing(end, float(values.split(b"\t")[header.split(b"\t").index(b"s")]))
    except (OSError, ValueError, IndexError):
        return None


def _seconds_by_kind(finished: Sequence[tuple[Step, Timing]]) -> dict[tuple[str, ...], float]:
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


def _longest_chain(left: Sequence[Step], costs: dict[str, float]) -> float:
    """Seconds of the longest chain of jobs that wait for each other; jobs come in the order of the workflow."""
    ready: dict[str, float] = {}
    for step in left:
        end = max((ready.get(path, 0.0) for path in step.inputs), default=0.0) + costs[step.label]
        ready.update(dict.fromkeys(step.outputs, end))
    return max(ready.values(), default=0.0)
