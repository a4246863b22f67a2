"""What only one process may hold: locks of the file system, and notes of who holds it. Standard library only.

A lock ends with its process and is seen as far as the file system carries it. A note says more: the host, process and
Slurm job of its holder. Every host that sees the note can judge it: by the process list on the same host, by Slurm,
and else by the age of the note, which its holder keeps young.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from hardscale.artifacts.atomic import drafted
from hardscale.runtime import slurm_queue

#: A file system, or its mount, that knows no locks.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_LOOK_SECONDS = 0.5
#: Slurm states in which a job's processes live but cannot keep their notes young.
_FROZEN = {"SUSPENDED", "STOPPED"}
_COMMAND_LENGTH = 200


def try_lock(file: IO[Any] | int, shared: bool = False) -> bool | None:
    """Lock an open file without waiting.

    Args:
        file: or its handle; the lock ends when it, and every copy of it in a child, is closed.
        shared: whether others may hold it with us, if they share it too.

    Returns:
        Whether the lock was free, or None where the file system knows no locks.

    Raises:
        OSError: the file system fails otherwise.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def lock(file: IO[Any]) -> None:
    """Wait for the lock of an open file; where the file system gives none, go on without."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def locked(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file, which is made; where the file system knows no locks, nothing is held.

    Args:
        path: of the file.
        waits: called once when another process holds it.

    Raises:
        OSError: the file cannot be made, or the file system fails.
    """
    with path.open("a+") as file:
        told = False
        while try_lock(file) is False:
            if not told:
                waits()
                told = True
            time.sleep(_LOOK_SECONDS)
        yield


def taken(path: Path) -> bool:
    """Whether a process holds the lock of a file; also when that cannot be told, but not without the file."""
    try:
        with path.open("rb") as file:
            return try_lock(file, shared=True) is not True
    except FileNotFoundError:
        return False
    except OSError:
        return True


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


def sign(note: Path, owner: Owner, seconds: float) -> Heartbeat:
    """Put an owner's note in place, whole or not at all, and touch it again and again.

    Args:
        note: the note's file; what another left there is replaced.
        owner: this process.
        seconds: between two touches.

    Raises:
        OSError: the folder cannot be written, or is full.
    """
    with drafted(note) as draft:
        handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(handle, owner.text.encode())
        except OSError:
            os.close(handle)
            raise
    return Heartbeat(handle, seconds)


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
        """Stop refreshing its time."""
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
    if not slurm_queue.available():
        return None
    try:
        state = slurm_queue.state(job_id)
    except slurm_queue.NoAnswer:
        return None
    if state not in slurm_queue.LIVE:
        return False
    return True if state in _FROZEN else None  # a live job may hold a dead process


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    return ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
