"""What the drivers and controllers of one working directory do about the queue together. Standard library only."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from hardscale.artifacts.atomic import write_whole
from hardscale.artifacts.locks import lock
from hardscale.runtime import console, slurm_queue

#: How the executor's jobs are marked.
_COMMENT = "rule_"
_PLACE = Path(".snakemake") / "hardscale-queue.json"


def cancel_waiting_orphans(folder: Path | None = None) -> list[int]:
    """Cancel the executor's jobs of earlier controllers that still wait to start; their numbers.

    Called before this controller has submitted anything. Running ones go on: a new job for the same artifact
    waits for their lease and takes their result. Distributed jobs go on too, their drivers attach.
    """
    place = (folder or Path.cwd()).resolve()
    if not slurm_queue.available():
        return []
    try:
        waiting = [job for job in slurm_queue.jobs() if job.state == "PENDING" and job.comment.startswith(_COMMENT)]
    except slurm_queue.NoAnswer as error:
        console.say(f"Slurm does not answer ({error})")
        return []
    ours = sorted({job.id for job in waiting if Path(job.work_dir).resolve() == place})
    for number in ours:
        slurm_queue.cancel(number, only_waiting=True)
    if ours:
        console.say(f"cancelled {len(ours)} waiting job(s) of a controller that is gone: {', '.join(map(str, ours))}")
    return ours


def states(max_age: float, since: float = 0.0, place: Path | None = None) -> dict[int, str]:
    """States of this user's jobs, at most ``max_age`` seconds old and not older than ``since`` (seconds of the epoch).

    Raises:
        slurm_queue.NoAnswer: Slurm's controller cannot be reached.
    """
    path = (place or _PLACE).absolute()
    with _alone(path):
        known = _read(path)
        if known is not None and known[0] >= since and 0 <= time.time() - known[0] < max_age:
            return known[1]
        asked = time.time()
        found = {job.id: job.state for job in slurm_queue.jobs()}
        with contextlib.suppress(OSError):  # on a full disk the answer serves this driver alone
            write_whole(path, json.dumps({"asked": asked, "jobs": {str(key): value for key, value in found.items()}}))
        return found


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One driver at a time, where there is room for a lock and the file system knows locks."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock(held.enter_context(path.with_suffix(".lock").open("a")))
        yield


def _read(path: Path) -> tuple[float, dict[int, str]] | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(path.read_text())
        return float(content["asked"]), {int(key): str(value) for key, value in content["jobs"].items()}
    return None
