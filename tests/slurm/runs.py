"""Whole studies on the throw-away cluster: start a controller, kill it, watch the queue."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from study_runs import StudyRun, environment
from waiting import HANG_SECONDS, wait_until

#: The profile's waits are for real clusters.
QUICK = (
    *("--seconds-between-status-checks", "1", "--slurm-init-seconds-before-status-checks", "1"),
    *("--latency-wait", "10"),
)
#: Controllers that tests started; none outlives its test.
_STARTED: list[subprocess.Popen[str]] = []
TABLES = ("runs.parquet", "fits.parquet", "claims.parquet", "summary.md")


@dataclass
class OnSlurm:
    """A study in a folder, run by `snakemake --profile slurm` on a cluster."""

    run: StudyRun
    env: dict[str, str]
    extra: dict[str, str] = field(default_factory=dict)

    def command(self, *options: str) -> list[str]:
        command = self.run.command(*options)
        cores = command.index("--cores")
        return [*command[:cores], *command[cores + 2 :], "--profile", "slurm", *QUICK]

    def start(self, *options: str) -> subprocess.Popen[str]:
        """A controller in a session of its own; its output goes to ``controller.log`` in the folder."""
        self.run.folder.mkdir(parents=True, exist_ok=True)
        plain = environment(self.run.folder)
        slurm = {"PATH": self.env["PATH"], "SLURM_CONF": self.env["SLURM_CONF"]}
        with (self.run.folder / "controller.log").open("a") as log:
            controller = subprocess.Popen(
                # A shell's background job ignores Ctrl-C, and so would all that it starts.
                ["env", "--default-signal=INT", *self.command(*options)],
                cwd=self.run.sources,
                env={**plain, **slurm, **self.extra},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        end_with_test(controller)
        return controller

    @property
    def said(self) -> str:
        return (self.run.folder / "controller.log").read_text()

    def finish(self, *options: str) -> int:
        """Run to the end."""
        return self.start(*options).wait(HANG_SECONDS)

    def killed_when(self, happened: Callable[[], object], seconds: float = 0.0) -> bool:
        """Start a controller and kill -9 it, and it alone, when something has happened; whether it still lived.

        Args:
            happened: what is waited for.
            seconds: by so much later, for kills at all kinds of moments.
        """
        controller = self.start()
        wait_until(lambda: happened() or controller.poll() is not None, "a moment to kill the controller")
        with contextlib.suppress(subprocess.TimeoutExpired):
            controller.wait(seconds)
        lived = controller.poll() is None
        controller.kill()
        controller.wait()
        return lived

    def tables(self) -> dict[str, bytes]:
        return {name: (self.run.results / "tables" / name).read_bytes() for name in TABLES}


def end_with_test(controller: subprocess.Popen[str]) -> None:
    """Let a controller be stopped at the end of its test, however that ends."""
    _STARTED.append(controller)


def end_controllers() -> None:
    """Stop controllers that a test left, as a user would; kill what does not listen."""
    while _STARTED:
        controller = _STARTED.pop()
        if controller.poll() is None:
            controller.terminate()
            try:
                controller.wait(HANG_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(controller.pid, signal.SIGKILL)
                controller.wait()


class QueueWatch(threading.Thread):
    """Looks at squeue all the time: how many live distributed jobs each cell had at most."""

    def __init__(self, cluster) -> None:
        super().__init__(daemon=True)
        self._cluster, self._ended = cluster, threading.Event()
        self.most: Counter[str] = Counter()
        self.looks = 0

    def run(self) -> None:
        while not self._ended.wait(0.5):
            text = self._cluster.call("squeue", "-h", "-t", "PD,R,CF", "-o", "%j|%k", check=False)
            rows = [line.split("|") for line in text.splitlines() if line.startswith("hs-")]
            self.looks += 1
            for label, n in Counter(row[1] for row in rows).items():
                self.most[label] = max(self.most[label], n)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def alive_below(folder: Path) -> list[str]:
    """Command lines of processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def wait_until_nothing_lives(cluster, folder: Path) -> None:
    wait_until(lambda: not cluster.live_jobs() and not alive_below(folder), f"the end of all that works in {folder}")
