"""The state of every job of a study: done, running, queued, failed or waiting."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hardscale.launch.note import NAME as NOTE
from hardscale.plan.jobs import Jobs
from hardscale.upkeep import marks
from hardscale.upkeep.controller import Controller, find_controller
from hardscale.upkeep.plan import Step, output_folder, plan
from hardscale.upkeep.sight import Live, Queue, Sight

DONE, RUNNING, QUEUED, FAILED, WAITING = STATES = ("done", "running", "queued", "failed", "waiting")


@dataclass(frozen=True)
class Seen:
    """A job and its state.

    Attributes:
        step: the job.
        state: one of ``STATES``.
        live: where it runs or waits, when it is ``running`` or ``queued``.
        error: why it failed, one line, when it is ``failed``.
    """

    step: Step
    state: str
    live: Live | None = None
    error: str | None = None


@dataclass(frozen=True)
class Survey:
    """A study at one moment.

    Attributes:
        jobs: the study's jobs.
        seen: every job with its state.
        controller: who runs the workflow here.
        slurm: the queue.
    """

    jobs: Jobs
    seen: Sequence[Seen]
    controller: Controller | None
    slurm: Queue

    def steps(self, *states: str) -> list[Seen]:
        """Jobs in some states."""
        return [seen for seen in self.seen if seen.state in states]

    @cached_property
    def needed(self) -> set[str]:
        """Artifact folders and files that an unfinished job reads."""
        unfinished = (seen.step for seen in self.seen if seen.state != DONE)
        return {output_folder(path) for step in unfinished for path in step.inputs}


def survey(jobs: Jobs) -> Survey:
    """Look at the working directory: artifacts, notes, processes, Slurm's queue and logs."""
    steps = plan(jobs)
    started = marks.started()
    slurm = Queue.ask()
    if slurm.problem and not _was_used(steps, started):
        slurm = Queue([])
    controller = find_controller()
    look = _Look(slurm, started, controlled=controller is not None and controller.alive is not False)
    return Survey(jobs, [look.at(step) for step in steps], controller, slurm)


def _was_used(steps: Sequence[Step], started: dict[str, str | None]) -> bool:
    """Whether anything of this folder may be in Slurm's hands; a machine can have its commands without a cluster."""
    return (
        any(started.values())
        or (marks.SNAKEMAKE / "slurm_logs").exists()
        or any(step.state and Path(step.state, NOTE).exists() for step in steps)
    )


class _Look:
    """Decides the state of one job after another."""

    def __init__(self, slurm: Queue, started: dict[str, str | None], controlled: bool) -> None:
        self._started = started
        self._sight = Sight(slurm, started, controlled)
        self._failures = marks.failures()

    def at(self, step: Step) -> Seen:
        # An output that Snakemake did not see finished is made again by the next run, though it lies there.
        if all(map(os.path.exists, step.outputs)) and not self._is_marked(step):
            return Seen(step, DONE)
        live = self._sight.of(step)
        if live is not None:
            return Seen(step, live.state, live)
        error = self._error(step)
        return Seen(step, FAILED, error=error) if error else Seen(step, WAITING)

    def _is_marked(self, step: Step) -> bool:
        return bool(self._started) and any(output in self._started for output in step.outputs)

    def _error(self, step: Step) -> str | None:
        """Why a job failed when it ran last; None when it did not, or was only interrupted."""
        if os.path.exists(step.log):  # noqa: PTH110 - of thousands of jobs
            told = marks.last_error(step.log)
            if told:
                return told
        told = self._sight.ended_badly(step) or self._failures.get(step.log) or self._failures.get(step.outputs[0])
        return told or _pruned_victim(step)


def _pruned_victim(step: Step) -> str | None:
    """Why an attack can not start: its model's weights were given up when the study did not ask for them."""
    if step.rule != "attack" or not os.path.exists(step.inputs[0]):  # noqa: PTH110
        return None
    folder = Path(output_folder(step.inputs[0]))
    if (folder / "model").is_dir():
        return None
    return f"{folder}: its weights were removed; delete the folder and run again to train its rounds again"
