"""A worker without heavy imports, for the tests of the gang: ``main`` does what its job's name says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from hardscale.console import say
from hardscale.errors import TrainingError


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
    if job == "again" and not (place / "second").exists():
        (place / "second").write_text("")
        raise SystemExit(85)
    if job in ("fails", "crashes", "dies", "saves", "deaf"):
        for _ in range(600):
            time.sleep(0.05)
            if told:
                (place / f"saved{rank}").write_text("")
                raise SystemExit(85)
