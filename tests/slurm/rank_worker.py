"""A distributed job for Slurm: counts to a number, keeps its count across lives, and saves when told to stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from hardscale.errors import TrainingError
from hardscale.runtime import stopping
from hardscale.runtime.console import say


def main(job: str, argv: list[str], meeting: Path | None) -> None:
    rank, place, n_steps = int(os.environ["RANK"]), Path(argv[0]), int(argv[1])
    stopping.listen()
    kept = place / f"count{rank}"
    count = int(kept.read_text()) if kept.exists() else 0
    with (place / f"lives{rank}").open("a") as lives:
        lives.write(
            f"{os.environ['SLURM_JOB_ID']} {os.environ['SLURMD_NODENAME']} {os.environ['WORLD_SIZE']} {count}\n"
        )
    if rank == 0:
        say(f"counting from {count}")
    while count < n_steps or (place / "hold").exists():
        time.sleep(0.1)
        count = min(count + 1, n_steps)
        if job == "fails" and rank == 1 and count == 3:
            raise TrainingError("loss is not finite at step 3")
        if job == "dies" and rank == 1 and count == 3:
            print("about to die", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if stopping.received:
            kept.write_text(str(count))
            say(f"saved at {count}")
            raise SystemExit(85)
    (place / f"done{rank}").write_text(str(count))
