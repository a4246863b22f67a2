"""A distributed job on Slurm, through submitit: submitted once, found again by its note, cancelled when its driver is.

The driver polls for the ranks' results every second and asks Slurm every ten, together with all other drivers.
A job that is preempted or reaches its time limit saves its state and is requeued under the same number by its own
rank 0 (:mod:`hardscale.launch.rank`); the driver only goes on waiting.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hardscale.artifacts.atomic import of_full_disk
from hardscale.errors import TrainingError
from hardscale.launch import queue
from hardscale.launch import rank as rank_module
from hardscale.launch.arguments import Allocation, LaunchRequest
from hardscale.launch.rank import environment
from hardscale.launch.state import Note, full_disk, read_note, remove_note
from hardscale.launch.watch import Watch, failures
from hardscale.runtime import console, slurm_queue
from hardscale.runtime.stopping import REQUEUE

_POLL_SECONDS = 1.0
_ASK_SECONDS = 10.0
#: How long results may stay invisible on a shared file system after the job ended.
_LATE_SECONDS = 10.0
_CANCEL_SECONDS = 90.0
#: Warning before the time limit and before preemption: saving a checkpoint must fit in.
_SIGNAL_SECONDS = 120
#: Ends that say nothing against the job: it resumes from its last checkpoint.
_AGAIN = frozenset({"TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED", "DEADLINE"})
#: States of a job that will start again.
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "CONFIGURING"})


class SlurmRanks(Watch):
    """A distributed job on Slurm: attached to when one of the same identity lives, submitted otherwise.

    Args:
        work: what is run.
        state: the job's private folder; the note lies in it.
        allocation: what is asked of Slurm.
        received: signals that the driver received.
    """

    def __init__(self, work: LaunchRequest, state: Path, allocation: Allocation, received: list[int]) -> None:
        super().__init__(work, state / "ranks", received)
        self._state, self._allocation = state, allocation
        self._asked = 0.0
        self._last: str | None = "PENDING"
        self._silent = False
        self._note = self._find() or self._submit()
        self._begun = _epoch(self._note.submitted)
        self.job = _job(self._note)

    # --- attach or submit -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The job's name: the same for the same work in the same place."""
        return f"hs-{self.work.identity[:12]}"

    def _find(self) -> Note | None:
        """What an earlier driver left: results, or a live job; a job of other work is cancelled."""
        note = read_note(self._state)
        if note is None:
            return self._unnoted()
        state = _answer(lambda: slurm_queue.state(note.job_id))
        live = state in slurm_queue.LIVE
        if note.identity != self.work.identity:
            if live:
                console.say(f"cancelling Slurm job {note.job_id}: its settings, inputs or code have changed since")
                slurm_queue.cancel(note.job_id)
                _wait_until_ended(note.job_id)
        elif live or len(_results(note)) == note.tasks:
            console.say(f"attached to Slurm job {note.job_id} ({state or 'ended'}), submitted {note.submitted}")
            return note
        remove_note(self._state)
        return None

    def _unnoted(self) -> Note | None:
        """A live job of our name: its driver was killed between sbatch and the note."""
        found = _answer(lambda: [job for job in slurm_queue.jobs(name=self.name) if job.live and self._is_ours(job)])
        if not found:
            return None
        console.say(f"attached to Slurm job {found[0].id} ({found[0].state})")
        return self._write_note(found[0].id)

    def _is_ours(self, job: slurm_queue.SlurmJob) -> bool:
        return job.comment == self.work.label

    def _submit(self) -> Note:
        shutil.rmtree(self.ranks_folder, ignore_errors=True)
        self.ranks_folder.mkdir(parents=True)
        with environment(self.work.threads, local=False), _clean_environment():
            number = int(self._sbatch().job_id)
        note = self._write_note(number)
        console.say(f"submitted as Slurm job {number}")
        return note

    def _sbatch(self) -> Any:
        import submitit
        from submitit.core.utils import FailedJobError

        allocation = self._allocation
        per_node = allocation.ranks_per_node(self.ranks)
        executor = submitit.SlurmExecutor(self.ranks_folder / "submitit")
        parameters = {
            "job_name": self.name,
            "comment": self.work.label,
            "nodes": allocation.nodes,
            "ntasks_per_node": per_node,
            "cpus_per_task": self.work.threads,
            "gpus_per_node": allocation.gpus // allocation.nodes or None,
            "mem": f"{allocation.mem_mb * per_node}M",
            "time": allocation.minutes,
            "partition": allocation.partition,
            "account": allocation.account,
            "qos": allocation.qos,
            "signal_delay_s": _SIGNAL_SECONDS,
            # A rank that is killed takes the others with it at once, instead of hanging them in a collective.
            "srun_args": ["--kill-on-bad-exit=1"],
            "additional_parameters": {"requeue": True, **(allocation.extra or {})},
        }
        executor.update_parameters(**{key: value for key, value in parameters.items() if value is not None})
        name, *options = self.work.command
        try:
            work, folder = self.work, self.ranks_folder
            return executor.submit(rank_module.run, work.worker, name, options, work.label, folder, False)
        except (FailedJobError, subprocess.SubprocessError, OSError) as error:
            if of_full_disk(error):
                raise
            asked = f"partition {allocation.partition or 'default'}, account {allocation.account or 'default'}"
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            raise TrainingError(
                f"sbatch refused {self.work.label} ({asked}): {lines[-1] if lines else type(error).__name__}; "
                "`make slurm-check` says which setting to change"
            ) from error

    def _write_note(self, job_id: int) -> Note:
        note = Note(
            job_id=job_id,
            name=self.name,
            identity=self.work.identity,
            folder=str(self.ranks_folder / "submitit"),
            tasks=self.ranks,
            submitted=datetime.now(UTC).isoformat(timespec="seconds"),
            host=socket.gethostname(),
        )
        note.write(self._state)
        return note

    # --- wait -------------------------------------------------------------------------------------------------------

    def wait(self) -> int:
        """Wait for all ranks; the largest of their exit codes, or 85 when they should be started again.

        Raises:
            TrainingError: a rank failed or died, or Slurm ended the job.
        """
        while True:
            self.show_progress()
            ended = self.results()
            if self.received:
                self._cancel("told to stop")
                return REQUEUE
            if failures(ended):
                cause = self.cause()
                self._cancel("a rank failed")
                raise TrainingError(cause)
            if len(ended) == self.ranks:
                code: int = max(result["code"] for result in ended.values())
                if code != REQUEUE or self._may_restart():
                    remove_note(self._state)
                    return code
                continue
            state = self._ask()
            if state not in slurm_queue.LIVE and self._no_late_result():
                remove_note(self._state)
                return self._ended(state)
            time.sleep(_POLL_SECONDS)

    def _may_restart(self) -> bool:
        """All ranks saved and left: whether the job is over, so that another may be submitted.

        It is not when Slurm requeues it, which needs a moment to show.

        Raises:
            TrainingError: somebody cancelled the job.
        """
        number = self._note.job_id
        deadline = time.monotonic() + _CANCEL_SECONDS
        while time.monotonic() < deadline:
            state = _answer(lambda: slurm_queue.state(number))
            if len(self.results()) < self.ranks:
                return False  # the next life has begun
            if state in _WAITING:
                for path in _results(self._note):
                    path.unlink(missing_ok=True)
                return False
            if state not in slurm_queue.LIVE:
                _refuse_if_cancelled(state, number)
                return True
            time.sleep(_POLL_SECONDS)
        self._cancel("its ranks have ended, the job has not")
        return True

    def _ask(self) -> str | None:
        """The job's state, from Slurm every ten seconds."""
        if time.monotonic() - self._asked < _ASK_SECONDS:
            return self._last
        self._asked = time.monotonic()
        try:
            known = queue.states(_ASK_SECONDS, since=self._begun)
            self._last = known.get(self._note.job_id) or slurm_queue.state(self._note.job_id)
            self._silent = False
        except slurm_queue.NoAnswer as error:
            if not self._silent:
                console.say(f"Slurm does not answer ({error}); still waiting for job {self._note.job_id}")
            self._silent = True
        return self._last

    def _no_late_result(self) -> bool:
        deadline = time.monotonic() + _LATE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                list(Path(self._note.folder).iterdir())  # lets a network file system look again
            ended = self.results()
            if len(ended) == self.ranks or failures(ended):
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _ended(self, state: str | None) -> int:
        number = self._note.job_id
        if state in _AGAIN:
            console.say(f"Slurm job {number} ended as {state}; submitting again, it resumes from its last checkpoint")
            return REQUEUE
        _refuse_if_cancelled(state, number)
        missing = min(set(range(self.ranks)) - set(self.results()))
        line = self.last_line(missing).split("] ", 1)[-1] or _tail(self.job.task(0).paths.stderr)
        raise TrainingError(
            f"Slurm job {number} ended as {state or 'unknown (Slurm has forgotten it)'} without a result of rank "
            f"{missing}{full_disk(self.ranks_folder)}; its last line: {line or 'none'}"
        )

    def gone(self, ended: dict[int, dict[str, Any]]) -> int | None:  # noqa: ARG002
        """On Slurm the job's state tells; a single rank cannot be seen."""
        return None

    def _cancel(self, why: str) -> None:
        number = self._note.job_id
        console.say(f"cancelling Slurm job {number}: {why}")
        with contextlib.suppress(slurm_queue.NoAnswer):
            slurm_queue.cancel(number)
            _wait_until_ended(number)
            remove_note(self._state)
        self.show_progress()


def _refuse_if_cancelled(state: str | None, number: int) -> None:
    if (state or "").startswith("CANCELLED"):
        raise TrainingError(
            f"Slurm job {number} ended as CANCELLED, not by this workflow; the same command resumes from its last state"
        )


def _wait_until_ended(job_id: int) -> None:
    deadline = time.monotonic() + _CANCEL_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(slurm_queue.NoAnswer):
            if slurm_queue.state(job_id) not in slurm_queue.LIVE:
                return
        time.sleep(_POLL_SECONDS)


def _job(note: Note) -> Any:
    from submitit.slurm.slurm import SlurmJob

    return SlurmJob(folder=note.folder, job_id=str(note.job_id), tasks=range(note.tasks))


def _results(note: Note) -> list[Path]:
    return list(Path(note.folder).glob(f"{note.job_id}_*_result.pkl"))


def _answer(ask: Any) -> Any:
    """Ask Slurm until it answers: submitting without knowing what lives would double a distributed job."""
    said = False
    while True:
        try:
            return ask()
        except slurm_queue.NoAnswer as error:
            if not said:
                console.say(f"Slurm does not answer ({error}); waiting before anything is submitted")
            said = True
            time.sleep(_ASK_SECONDS)


@contextlib.contextmanager
def _clean_environment() -> Any:
    """Without the variables of a job that this process may itself run in."""
    from submitit.helpers import clean_env

    with clean_env():
        yield


def _tail(path: Path) -> str:
    return rank_module.last_line(path)


def _epoch(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
