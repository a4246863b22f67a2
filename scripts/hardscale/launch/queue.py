"""Asking Slurm about jobs: squeue first, sacct where it answers. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hardscale.errors import TrainingError
from hardscale.runtime import console

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


#: How the executor's jobs are marked.
_COMMENT = "rule_"
_PLACE = Path(".snakemake") / "hardscale-queue.json"


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
    """Cancel a job, or of an array only what has not started; one that has ended is no error."""
    _call(["scancel", *(["--state=PENDING"] if only_waiting else []), str(job_id)])


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(f"{command[0]}: {error}") from error


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def cancel_waiting_orphans(folder: Path | None = None) -> list[int]:
    """Cancel the executor's jobs of earlier controllers that still wait to start; their numbers.

    Called before this controller has submitted anything. Running ones go on: who makes the same waits for their lease
    and takes their result. Distributed jobs go on too, their drivers attach.
    """
    place = (folder or Path.cwd()).resolve()
    if not available():
        return []
    try:
        waiting = [job for job in jobs() if job.state == "PENDING" and job.comment.startswith(_COMMENT)]
    except NoAnswer as error:
        console.say(f"Slurm does not answer ({error})")
        return []
    ours = sorted({job.id for job in waiting if Path(job.work_dir).resolve() == place})
    for number in ours:
        cancel(number, only_waiting=True)
    if ours:
        console.say(f"cancelled {len(ours)} waiting job(s) of a controller that is gone: {', '.join(map(str, ours))}")
    return ours


def states(max_age: float, since: float = 0.0, place: Path | None = None) -> dict[int, str]:
    """States of this user's jobs, at most ``max_age`` seconds old and not older than ``since`` (seconds of the epoch).

    Raises:
        NoAnswer: Slurm's controller cannot be reached.
    """
    path = (place or _PLACE).absolute()
    with _alone(path):
        known = _read(path)
        if known is not None and known[0] >= since and 0 <= time.time() - known[0] < max_age:
            return known[1]
        asked = time.time()
        found = {job.id: job.state for job in jobs()}
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            draft.write_text(json.dumps({"asked": asked, "jobs": {str(key): value for key, value in found.items()}}))
            draft.replace(path)
        except OSError:  # a full disk: the answer serves this driver alone
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        return found


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One driver at a time, where there is room for a lock and the file system knows locks."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(path.with_suffix(".lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> tuple[float, dict[int, str]] | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(path.read_text())
        return float(content["asked"]), {int(key): str(value) for key, value in content["jobs"].items()}
    return None
