"""Plain questions to Slurm about jobs: squeue first, sacct where it answers. Standard library only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from hardscale.errors import TrainingError

#: States in which a job still has, or will again have, running processes.
LIVE = frozenset(
    {
        "PENDING",
        "RUNNING",
        "CONFIGURING",
        "COMPLETING",
        "SUSPENDED",
        "STOPPED",
        "RESIZING",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "SPECIAL_EXIT",
        "SIGNALING",
        "STAGE_OUT",
        "RESV_DEL_HOLD",
    }
)
_SEPARATOR = "\x1f"
_FIELDS = ("%A", "%T", "%j", "%r", "%P", "%N", "%k", "%Z")
_TIMEOUT = 30.0


@dataclass(frozen=True)
class SlurmJob:
    """A job as squeue shows it. ``work_dir`` is where it was submitted from, ``reason`` why it waits."""

    id: int
    state: str
    name: str
    reason: str = ""
    partition: str = ""
    nodes: str = ""
    comment: str = ""
    work_dir: str = ""

    @property
    def live(self) -> bool:
        """Whether the job may still write anything."""
        return self.state in LIVE


class NoAnswer(TrainingError):  # noqa: N818 - it says what happened
    """Slurm did not answer: nothing is known of the job, neither that it lives nor that it ended."""


def available() -> bool:
    """Whether Slurm's commands are installed here."""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def jobs(ids: Iterable[int] = (), name: str | None = None) -> list[SlurmJob]:
    """Jobs that squeue knows, ended ones among them while it remembers: by id, by name, or all of this user.

    Raises:
        NoAnswer: the controller cannot be reached.
    """
    wanted = [str(number) for number in ids]
    command = ["squeue", "--noheader", "--states=all", f"--format={_SEPARATOR.join(_FIELDS)}"]
    if wanted:
        command.append(f"--jobs={','.join(wanted)}")
    elif name is not None:
        command += ["--name", name, "--me"]
    else:
        command.append("--me")
    done = _call(command)
    if done.returncode:
        # squeue forgets ended jobs and then calls the only id it was asked for invalid.
        if wanted and "invalid job id" in done.stderr.lower():
            return []
        raise NoAnswer(f"squeue: {_last(done.stderr) or f'exit code {done.returncode}'}")
    rows = (line.split(_SEPARATOR) for line in done.stdout.splitlines() if line.strip())
    return [SlurmJob(int(row[0]), *row[1:]) for row in rows if len(row) == len(_FIELDS) and row[0].isdigit()]


def state(job_id: int) -> str | None:
    """A job's state; None when Slurm has forgotten it, which only happens to ended jobs.

    Raises:
        NoAnswer: the controller cannot be reached.
    """
    found = jobs([job_id])
    return found[0].state if found else recorded_state(job_id)


def recorded_state(job_id: int) -> str | None:
    """What the accounting database says of a job; None without one."""
    if shutil.which("sacct") is None:
        return None
    try:
        done = _call(["sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={job_id}"])
    except NoAnswer:
        return None
    words = done.stdout.split()
    return words[0] if done.returncode == 0 and words else None


def cancel(job_id: int, only_waiting: bool = False) -> None:
    """Cancel a job, or only if it still waits to start; one that has ended is no error."""
    _call(["scancel", *(["--state=PENDING"] if only_waiting else []), str(job_id)])


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(f"{command[0]}: {error}") from error


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
