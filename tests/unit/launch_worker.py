"""A worker without heavy imports, for the tests of the distributed job: ``main`` does what its job's name says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from hardscale.errors import TrainingError
from hardscale.runtime.console import say

#: After a fifth of it less, the stacks are written; meeting and importing may take long on a busy machine.
PATIENCE, MEETING = 8.0, 1800.0


def main(job: str, argv: list[str], meeting: Path | None) -> None:
    rank, world, place = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), Path(argv[0])
    told: list[int] = []
    if job == "saves":
        signal.signal(signal.SIGTERM, lambda signum, frame: told.append(signum))
    (place / f"rank{rank}").write_text(f"{world} {os.environ['LOCAL_RANK']} {meeting} {os.environ['OMP_NUM_THREADS']}")
    print(f"a library's line of rank {rank}")
    if rank == 0:
        say("a line for the terminal")
    if job == "fails" and rank == world - 1:
        raise TrainingError("loss is not finite at step 3 (examples 7); lower the learning rate")
    if job == "crashes" and rank == world - 1:
        raise ValueError("a bug")
    if job == "dies" and rank == world - 1:
        say("about to die")
        os.kill(os.getpid(), signal.SIGKILL)
    if job in ("hangs in a collective", "hangs before a meeting"):
        wait_for_each_other(job, rank, world, meeting)
    if job == "again" and not (place / "second").exists():
        (place / "second").write_text("")
        raise SystemExit(85)
    if job in ("fails", "crashes", "dies", "saves", "deaf"):
        while True:  # the driver, or the watch of it, ends this process
            time.sleep(0.05)
            if told:
                (place / f"saved{rank}").write_text("")
                raise SystemExit(85)


def wait_for_each_other(job: str, rank: int, world: int, meeting: Path | None) -> None:
    """The last rank stands still for ever; once it does, nobody waits for it longer than the patience."""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    from hardscale.runtime import pulse
    from hardscale.training.distributed import Group
    from hardscale.training.meeting import Meeting

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(seconds=MEETING)
    )
    store = dist.distributed_c10d._get_default_store()
    group = Group(rank, world, torch.device("cpu"), Meeting(rank, world, PATIENCE))
    group.sum(torch.zeros(1, dtype=torch.float64))
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=PATIENCE))
    if rank == world - 1:
        pulse.start(PATIENCE, group.meeting.beat)
        store.set("stands still", "yes")
        stand_still()
    store.wait(["stands still"])
    pulse.start(PATIENCE, group.meeting.beat)
    if job == "hangs in a collective":
        group.sum(torch.zeros(1, dtype=torch.float64))
    else:
        group.gather(rank)


def stand_still() -> None:
    while True:
        time.sleep(1)
