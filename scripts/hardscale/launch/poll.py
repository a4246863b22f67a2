"""One squeue for all drivers of a working directory: 200 of them ask Slurm no more often than one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hardscale.launch import queue

_PLACE = Path(".snakemake") / "hardscale-queue.json"


def states(max_age: float, since: float = 0.0, place: Path | None = None) -> dict[int, str]:
    """States of this user's jobs, at most ``max_age`` seconds old and not older than ``since`` (seconds of the epoch).

    Raises:
        NoAnswer: Slurm's controller can not be reached.
    """
    path = (place or _PLACE).absolute()
    with _alone(path):
        known = _read(path)
        if known is not None and known[0] >= since and 0 <= time.time() - known[0] < max_age:
            return known[1]
        asked = time.time()
        found = {job.id: job.state for job in queue.jobs()}
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
