"""Who holds something that only one process may hold, and whether that process still lives. Standard library only.

A holder writes a note: its host, process and Slurm job. Every host that sees the note can judge it: by the process
list on the same host, by Slurm, and else by the age of the note, which its holder keeps young.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

#: Slurm states in which a job's processes live but cannot keep their notes young.
_FROZEN = {"SUSPENDED", "STOPPED"}
_COMMAND_LENGTH = 200


@dataclass(frozen=True)
class Owner:
    """A process that holds something.

    Attributes:
        host: name of its machine.
        pid: its number there.
        started: when that process began, as its machine counts; tells it from a later one with the same number.
        since: when it took hold, ISO 8601, UTC.
        command: its command line.
        slurm_job: the Slurm job that it runs in.
        restarts: how often Slurm had requeued that job.
        version: what the holder works with; see its users.
        token: differs for every holder.
    """

    host: str
    pid: int
    started: str
    since: str
    command: str
    slurm_job: int | None
    restarts: int
    version: str
    token: str

    @classmethod
    def me(cls, version: str = "") -> Owner:
        """The process that calls."""
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=process_start(os.getpid()) or "",
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(sys.argv)[:_COMMAND_LENGTH],
            slurm_job=_number(os.environ.get("SLURM_JOB_ID")),
            restarts=_number(os.environ.get("SLURM_RESTART_COUNT")) or 0,
            version=version,
            token=uuid.uuid4().hex,
        )

    @property
    def text(self) -> str:
        """The note that the holder leaves."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @property
    def near(self) -> bool:
        """Whether it is a process of this host."""
        return self.host == socket.gethostname()

    @property
    def described(self) -> str:
        """One line for people."""
        job = f", Slurm job {self.slurm_job}" if self.slurm_job is not None else ""
        return f"host {self.host}, pid {self.pid}, since {self.since}{job}"

    def lives(self) -> bool | None:
        """Whether the process lives; None when neither this host nor Slurm can tell."""
        if self.near:
            return process_start(self.pid) == self.started
        if self.slurm_job is None:
            return None
        mine = Owner.me()
        if self.slurm_job == mine.slurm_job:
            return False if self.restarts < mine.restarts else None
        return _job_lives(self.slurm_job)


def read_owner(path: Path) -> Owner | None:
    """The owner in a note; None without a note, or when it is still being written."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    return None


def is_held(note: Path, owner: Owner | None, clock: Path, patience: float) -> bool:
    """Whether the holder of a note must be taken for alive.

    Args:
        note: the note's file.
        owner: what it says; None when it cannot be read.
        clock: a file beside it, touched here to read the clock that stamps the note.
        patience: seconds after which a note that nobody touches is a dead one's.
    """
    known = owner.lives() if owner is not None else None
    if known is not None:
        return known
    with contextlib.suppress(FileNotFoundError):
        age = _age(note, clock)
        if age < 0:  # stamped by a clock that was set back since: the silence counts from now on
            with contextlib.suppress(OSError):
                os.utime(note)
        return age <= patience
    return False


def process_start(pid: int) -> str | None:
    """When a process began, in a form that only serves to compare; None when it does not run."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        # Clock ticks since this boot; without the boot, a process after a restart may look like one before it.
        return f"{_boot()}+{fields[19]}" if fields[0] not in "ZX" else None
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


class Heartbeat:
    """Touches a note again and again while this process lives, also when another note has taken its place."""

    def __init__(self, handle: int, seconds: float) -> None:
        self._handle, self._seconds = handle, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._thread.start()

    def stop(self) -> None:
        """Touch it no more."""
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._seconds):
            with contextlib.suppress(OSError):
                os.utime(self._handle)


def _age(note: Path, clock: Path) -> float:
    clock.touch()
    # Opening makes a network file system ask its server; a plain stat may be answered from memory.
    with note.open("rb") as there, clock.open("rb") as here:
        return os.fstat(here.fileno()).st_mtime - os.fstat(there.fileno()).st_mtime


def _job_lives(job_id: int) -> bool | None:
    from hardscale.launch import queue

    if not queue.available():
        return None
    try:
        state = queue.state(job_id)
    except queue.NoAnswer:
        return None
    if state not in queue.LIVE:
        return False
    return True if state in _FROZEN else None  # a live job may hold a dead process


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    return ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
