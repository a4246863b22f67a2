"""The state of every job of a study: done, running, queued, failed or waiting."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hardscale.artifacts.locks import taken
from hardscale.launch.lock import is_rank
from hardscale.launch.state import NAME as NOTE
from hardscale.launch.state import read_note
from hardscale.ops import snakemake_metadata
from hardscale.ops.controller import Controller, find_controller
from hardscale.ops.snakemake_metadata import last_line
from hardscale.plan import table
from hardscale.plan.jobs import Jobs
from hardscale.plan.steps import PlannedJob, output_folder, plan
from hardscale.runtime import slurm_queue

DONE, RUNNING, QUEUED, FAILED, WAITING = STATES = ("done", "running", "queued", "failed", "waiting")
_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
#: Ends that say nothing against a job: its next run resumes.
_HARMLESS = frozenset({"COMPLETED", "CANCELLED", "PREEMPTED"})


@dataclass(frozen=True)
class Seen:
    """A job and its state.

    Attributes:
        step: the job.
        state: one of ``STATES``.
        live: where it runs or waits, when it is ``running`` or ``queued``.
        error: why it failed, one line, when it is ``failed``.
    """

    step: PlannedJob
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
        slurm: Slurm's queue.
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
    started = snakemake_metadata.started()
    slurm = Queue.ask()
    if slurm.problem and not _was_used(steps, started):
        slurm = Queue([])
    controller = find_controller()
    look = _Look(slurm, started, controlled=controller is not None and controller.alive is not False)
    return Survey(jobs, [look.at(step) for step in steps], controller, slurm)


def _was_used(steps: Sequence[PlannedJob], started: dict[str, str | None]) -> bool:
    """Whether anything of this folder may be in Slurm's hands; a machine can have its commands without a cluster."""
    return (
        any(started.values())
        or (snakemake_metadata.SNAKEMAKE / "slurm_logs").exists()
        or any(step.state and Path(step.state, NOTE).exists() for step in steps)
    )


class _Look:
    """Decides the state of one job after another."""

    def __init__(self, slurm: Queue, started: dict[str, str | None], controlled: bool) -> None:
        self._started = started
        self._sight = Sight(slurm, started, controlled)
        self._failures = snakemake_metadata.failures()

    def at(self, step: PlannedJob) -> Seen:
        # An output that Snakemake did not see finished is made again by the next run, though it lies there.
        if all(map(os.path.exists, step.outputs)) and not self._is_marked(step):
            return Seen(step, DONE)
        live = self._sight.of(step)
        if live is not None:
            return Seen(step, live.state, live)
        error = self._error(step)
        return Seen(step, FAILED, error=error) if error else Seen(step, WAITING)

    def _is_marked(self, step: PlannedJob) -> bool:
        return bool(self._started) and any(output in self._started for output in step.outputs)

    def _error(self, step: PlannedJob) -> str | None:
        """Why a job failed when it ran last; None when it did not, or was only interrupted."""
        if os.path.exists(step.log):  # noqa: PTH110 - of thousands of jobs
            told = snakemake_metadata.last_error(step.log)
            if told:
                return told
        told = self._sight.ended_badly(step) or self._failures.get(step.log) or self._failures.get(step.outputs[0])
        return told or _pruned_victim(step)


def _pruned_victim(step: PlannedJob) -> str | None:
    """Why an attack cannot start: its model's weights were given up when the study did not ask for them."""
    if step.job is not table.ATTACK or not os.path.exists(step.inputs[0]):  # noqa: PTH110
        return None
    folder = Path(output_folder(step.inputs[0]))
    if (folder / "model").is_dir():
        return None
    return f"{folder}: its weights were removed; delete the folder and run again to train its rounds again"


@dataclass(frozen=True)
class Live:
    """A job that runs or will.

    Attributes:
        state: ``running`` or ``queued``.
        slurm_id: Slurm's number; None for a job of this machine.
        node: where it runs.
        reason: why it waits, as Slurm says.
        progress: the last line that it said.
    """

    state: str
    slurm_id: int | None = None
    node: str = ""
    reason: str = ""
    progress: str = ""


class Queue:
    """Slurm's queue at one moment.

    Attributes:
        problem: why nothing is known, when Slurm is installed and does not answer.
    """

    def __init__(self, jobs: list[slurm_queue.SlurmJob], problem: str = "") -> None:
        self.problem = problem
        self.by_id = {job.id: job for job in jobs}
        here = os.path.realpath(".")
        self.here = [job for job in jobs if job.work_dir and os.path.realpath(job.work_dir) == here]

    @classmethod
    def ask(cls) -> Queue:
        """The queue now; empty where there is no Slurm."""
        if not slurm_queue.available():
            return cls([])
        try:
            return cls(slurm_queue.jobs())
        except slurm_queue.NoAnswer as error:
            return cls([], f"Slurm does not answer ({error})")

    def find(self, number: str | None) -> slurm_queue.SlurmJob | None:
        """The job of a number as Snakemake notes it."""
        return self.by_id.get(int(number)) if number is not None and number.isdigit() else None

    def live(self, number: int) -> bool:
        """Whether a job lives; an unanswered question counts as yes."""
        job = self.by_id.get(number)
        return bool(self.problem) if job is None else job.live


class Sight:
    """Looks for the processes of jobs.

    Args:
        slurm: Slurm's queue.
        marks: :func:`hardscale.ops.snakemake_metadata.started`.
        controlled: whether a controller lives, so that its marks are of living jobs.
    """

    def __init__(self, slurm: Queue, marks: dict[str, str | None], controlled: bool) -> None:
        self._slurm, self._marks, self._controlled = slurm, marks, controlled
        self._comments: dict[str, slurm_queue.SlurmJob] = {}
        for job in sorted(slurm.here, key=lambda job: (job.live, job.id)):
            self._comments[job.comment] = job  # a job that lives before one that ended, then the newest

    def of(self, step: PlannedJob) -> Live | None:
        """The life of a job; None when it neither runs nor waits for Slurm."""
        return self._distributed_job(step) or self._executed(step) or self._started(step)

    def ended_badly(self, step: PlannedJob) -> str | None:
        """What Slurm remembers of the job's end, when that was not a good one."""
        job = self._slurm_job(step)
        if job is None or job.live or job.state in _HARMLESS:
            return None
        return f"Slurm job {job.id} ended as {job.state}" + (f" on {job.nodes}" if job.nodes else "")

    def _distributed_job(self, step: PlannedJob) -> Live | None:
        if step.state is None or not os.path.isdir(step.state):  # noqa: PTH112 - of thousands of jobs
            return None
        ranks_folder = Path(step.state) / "ranks"
        note = read_note(Path(step.state))
        if note is not None and self._slurm.live(note.job_id):
            return self._on_slurm(note.job_id, last_line(str(ranks_folder / "progress")))
        if ranks_here(ranks_folder):
            return Live(RUNNING, None, socket.gethostname(), "", last_line(str(ranks_folder / "progress")))
        return None

    def _executed(self, step: PlannedJob) -> Live | None:
        job = self._slurm_job(step)
        return _shown(job, last_line(step.log)) if job is not None and job.live else None

    def _started(self, step: PlannedJob) -> Live | None:
        if self._controlled and any(output in self._marks for output in step.outputs):
            return Live(RUNNING, None, "", "", last_line(step.log))
        return None

    def _slurm_job(self, step: PlannedJob) -> slurm_queue.SlurmJob | None:
        if not self._slurm.by_id:
            return None
        for output in step.outputs:
            if job := self._slurm.find(self._marks.get(output)):
                return job
        return self._comments.get(step.distributed_label if step.state else step.slurm_comment)

    def _on_slurm(self, number: int, progress: str) -> Live:
        job = self._slurm.by_id.get(number)
        return Live(RUNNING, number, "", self._slurm.problem, progress) if job is None else _shown(job, progress)


def _shown(job: slurm_queue.SlurmJob, progress: str) -> Live:
    if job.state in _WAITING:
        return Live(QUEUED, job.id, "", job.reason)
    return Live(RUNNING, job.id, job.nodes, "" if job.state == "RUNNING" else job.state, progress)


def ranks_here(ranks_folder: Path) -> bool:
    """Whether ranks of a ranks' folder run on this machine."""
    for path in ranks_folder.glob("rank*.pid") if ranks_folder.is_dir() else ():
        with contextlib.suppress(OSError, ValueError):
            if is_rank(int(path.read_text()), ranks_folder.absolute()):
                return True
    return False


def driven(state: Path) -> bool:
    """Whether a driver holds a state folder."""
    return taken(state / "driver.lock")
