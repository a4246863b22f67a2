"""Which jobs live now, and where: gangs by their notes and ranks, others by Snakemake's marks and Slurm's queue."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from hardscale.launch import queue
from hardscale.launch.lock import is_rank
from hardscale.launch.note import read_note
from hardscale.upkeep.marks import last_line
from hardscale.upkeep.plan import Step

RUNNING, QUEUED = "running", "queued"
_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)

#: Ends that say nothing against a job: its next run goes on.
_HARMLESS = frozenset({"COMPLETED", "CANCELLED", "PREEMPTED"})


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

    def __init__(self, jobs: list[queue.SlurmJob], problem: str = "") -> None:
        self.problem = problem
        self.by_id = {job.id: job for job in jobs}
        here = os.path.realpath(".")
        self.here = [job for job in jobs if job.work_dir and os.path.realpath(job.work_dir) == here]

    @classmethod
    def ask(cls) -> Queue:
        """The queue now; empty where there is no Slurm."""
        if not queue.available():
            return cls([])
        try:
            return cls(queue.jobs())
        except queue.NoAnswer as error:
            return cls([], f"Slurm does not answer ({error})")

    def find(self, number: str | None) -> queue.SlurmJob | None:
        """The job of a number as Snakemake notes it."""
        return self.by_id.get(int(number)) if number is not None and number.isdigit() else None

    def live(self, number: int) -> bool:
        """Whether a job lives; an unanswered question counts as yes."""
        job = self.by_id.get(number)
        return bool(self.problem) if job is None else job.live


class Sight:
    """Looks for the processes of jobs.

    Args:
        slurm: the queue.
        marks: :func:`hardscale.upkeep.marks.started`.
        controlled: whether a controller lives, so that its marks are of living jobs.
    """

    def __init__(self, slurm: Queue, marks: dict[str, str | None], controlled: bool) -> None:
        self._slurm, self._marks, self._controlled = slurm, marks, controlled
        self._comments: dict[str, queue.SlurmJob] = {}
        for job in sorted(slurm.here, key=lambda job: (job.live, job.id)):
            self._comments[job.comment] = job  # a job that lives before one that ended, then the newest

    def of(self, step: Step) -> Live | None:
        """The life of a job; None when it neither runs nor waits for Slurm."""
        return self._gang(step) or self._executed(step) or self._started(step)

    def ended_badly(self, step: Step) -> str | None:
        """What Slurm remembers of the job's end, when that was not a good one."""
        job = self._slurm_job(step)
        if job is None or job.live or job.state in _HARMLESS:
            return None
        return f"Slurm job {job.id} ended as {job.state}" + (f" on {job.nodes}" if job.nodes else "")

    def _gang(self, step: Step) -> Live | None:
        if step.state is None or not os.path.isdir(step.state):  # noqa: PTH112 - of thousands of jobs
            return None
        gang = Path(step.state) / "gang"
        note = read_note(Path(step.state))
        if note is not None and self._slurm.live(note.job_id):
            return self._on_slurm(note.job_id, last_line(str(gang / "progress")))
        if ranks_here(gang):
            return Live(RUNNING, None, socket.gethostname(), "", last_line(str(gang / "progress")))
        return None

    def _executed(self, step: Step) -> Live | None:
        job = self._slurm_job(step)
        return _shown(job, last_line(step.log)) if job is not None and job.live else None

    def _started(self, step: Step) -> Live | None:
        if self._controlled and any(output in self._marks for output in step.outputs):
            return Live(RUNNING, None, "", "", last_line(step.log))
        return None

    def _slurm_job(self, step: Step) -> queue.SlurmJob | None:
        if not self._slurm.by_id:
            return None
        for output in step.outputs:
            if job := self._slurm.find(self._marks.get(output)):
                return job
        return self._comments.get(step.gang_label if step.state else step.slurm_comment)

    def _on_slurm(self, number: int, progress: str) -> Live:
        job = self._slurm.by_id.get(number)
        return Live(RUNNING, number, "", self._slurm.problem, progress) if job is None else _shown(job, progress)


def _shown(job: queue.SlurmJob, progress: str) -> Live:
    if job.state in _WAITING:
        return Live(QUEUED, job.id, "", job.reason)
    return Live(RUNNING, job.id, job.nodes, "" if job.state == "RUNNING" else job.state, progress)


def ranks_here(gang: Path) -> bool:
    """Whether ranks of a gang folder run on this machine."""
    for path in gang.glob("rank*.pid") if gang.is_dir() else ():
        with contextlib.suppress(OSError, ValueError):
            if is_rank(int(path.read_text()), gang.absolute()):
                return True
    return False


def driven(state: Path) -> bool:
    """Whether a driver holds a state folder."""
    try:
        with (state / "driver.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
