"""Drivers of counting distributed jobs, started and watched from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardscale.launch.state import read_note
from waiting import HANG_SECONDS, wait_until

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "scripts"
_DRIVER = """
import json, sys
from pathlib import Path
from hardscale.runtime.console import console
from hardscale.launch.driver import run_ranks
from hardscale.launch.arguments import Allocation
job, place, steps, identity, asked = sys.argv[1:]
asked = json.loads(asked)
with console(None, "count"):
    run_ranks([job, place, steps], asked.pop("ranks"), Path(place, "state"), "slurm", "count", worker="rank_worker",
             identity=identity, allocation=Allocation(**asked), log=Path(place, "log"))
"""


class Driver:
    """A driver process and what it says."""

    def __init__(self, cluster, place, job="counts", steps=30, identity="a" * 64, cwd=None, **asked):
        import json

        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        allocation = {"ranks": 2, "nodes": 2, "mem_mb": 200, "minutes": 10, "partition": "batch", **asked}
        paths = {"PYTHONPATH": os.pathsep.join([str(SCRIPTS), str(HERE)])}
        self.output = place / f"driver{time.monotonic_ns()}"
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _DRIVER, job, str(place), str(steps), identity, json.dumps(allocation)],
                env={**cluster.env, **paths},
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd or place,
                start_new_session=True,
            )

    @property
    def said(self):
        return self.output.read_text()

    def job(self):
        """The job that it waits for."""
        wait_until(lambda: read_note(self.place / "state") is not None or self.process.poll() is not None)
        note = read_note(self.place / "state")
        assert note is not None, self.said
        return note.job_id

    def ends(self):
        try:
            return self.process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still waiting: {self.said}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def megabytes(self):
        """Private memory of the process, and its share of what it has in common with others."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def counting(place, life=1, ranks=2):
    """Wait until all ranks count, in their life of this number."""

    def all_count():
        with contextlib.suppress(OSError):
            return all(len((place / f"lives{r}").read_text().splitlines()) >= life for r in range(ranks))
        return False

    wait_until(all_count)


@contextlib.contextmanager
def held_back(place):
    """Meanwhile no distributed job in this folder comes to its end, however long what is waited for takes."""
    (place / "hold").touch()
    yield
    (place / "hold").unlink()


def lives(place, rank=0):
    return [line.split() for line in (place / f"lives{rank}").read_text().splitlines()]
