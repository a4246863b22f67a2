"""One driver and one distributed job at a time in a job's state folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from hardscale.artifacts.locks import locked
from hardscale.runtime import console

#: How long the ranks of a killed driver may take to save their state.
_GRACE_SECONDS = 60.0


@contextlib.contextmanager
def only_driver(path: Path, label: str) -> Iterator[None]:
    """Hold the job's lock; wait for a driver before us, and for the ranks that a killed one left behind.

    Where the file system knows no locks, one controller and the job's note and name must do.
    """
    with locked(path, lambda: console.say(f"another process runs {label} in {path.parent}; waiting for it")):
        _wait_for_orphans(path.parent / "ranks")
        yield


def _wait_for_orphans(ranks_folder: Path) -> None:
    pids = [int(path.read_text() or 0) for path in ranks_folder.glob("rank*.pid")]
    mine = [pid for pid in pids if pid and pid != os.getpid() and is_rank(pid, ranks_folder)]
    if not mine:
        return
    console.say("ranks of an earlier run are still stopping; waiting for them")
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(is_rank(pid, ranks_folder) for pid in mine) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in mine:
        if is_rank(pid, ranks_folder):
            os.kill(pid, signal.SIGKILL)


def is_rank(pid: int, ranks_folder: Path) -> bool:
    """Whether a process is a rank of this folder, and not another one that got its number since."""
    mark = os.fsencode(str(ranks_folder / "submitit"))
    if Path("/proc/self").exists():
        try:
            return mark in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            return False
    return mark in subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False).stdout
