"""Jobs that a dead controller left in Slurm's queue. Standard library only."""

from __future__ import annotations

from pathlib import Path

from hardscale.launch import queue
from hardscale.runtime import console

#: How the executor's jobs are marked.
_COMMENT = "rule_"


def cancel_waiting_orphans(folder: Path | None = None) -> list[int]:
    """Cancel the executor's jobs of earlier controllers that still wait to start; their numbers.

    Called before this controller has submitted anything. Running ones go on: who makes the same waits for their lease
    and takes their result. Gangs go on too, their drivers attach.
    """
    place = (folder or Path.cwd()).resolve()
    if not queue.available():
        return []
    try:
        waiting = [job for job in queue.jobs() if job.state == "PENDING" and job.comment.startswith(_COMMENT)]
    except queue.NoAnswer as error:
        console.say(f"Slurm does not answer ({error})")
        return []
    ours = sorted({job.id for job in waiting if Path(job.work_dir).resolve() == place})
    for number in ours:
        queue.cancel(number, only_waiting=True)
    if ours:
        console.say(f"cancelled {len(ours)} waiting job(s) of a controller that is gone: {', '.join(map(str, ours))}")
    return ours
