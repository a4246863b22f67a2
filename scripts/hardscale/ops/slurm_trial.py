"""The preflight's tiny job: a node looks at the head's folder and answers. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardscale.ops import cluster
from hardscale.ops.cluster import Demand
from hardscale.ops.slurm_check import CheckedSetup, CheckResult, fail, ok, warn
from hardscale.ops.slurm_probe import ANSWER
from hardscale.plan.paths import StudyPaths
from hardscale.runtime import slurm_queue
from hardscale.settings.study import data_root

_SCRIPTS = Path(__file__).resolve().parents[2]
_MEM_MB = 2_000
_MINUTES = 5
_POLL_SECONDS = 0.5
#: How late a file may show on a shared file system.
_LATE_SECONDS = 15.0
_SKEW_SECONDS = 5.0
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED")


def probe(now: CheckedSetup, wait: float) -> Iterator[CheckResult]:
    """Run the tiny job on each partition that the study uses.

    Args:
        now: what is asked about.
        wait: seconds that a job may wait in Slurm's queue.
    """
    trials: dict[tuple[Any, ...], Demand] = {}
    for demand in now.demands:
        if (demand.partition or "") in now.partitions:
            key = (demand.partition, demand.account, demand.site)
            if key not in trials or demand.gpus > trials[key].gpus:
                trials[key] = demand
    for demand in trials.values():
        yield from _Trial(now, demand, wait).findings()


class _Trial:
    """One tiny job, with the partition, account and GPUs of a demand."""

    def __init__(self, now: CheckedSetup, demand: Demand, wait: float) -> None:
        self._now, self._wait = now, wait
        site = tuple(option for option in demand.site if "gres" not in option)
        self._demand = replace(
            demand, nodes=1, tasks=1, cpus=1, mem_mb=_MEM_MB, minutes=_MINUTES, gpus=min(demand.gpus, 1), site=site
        )
        self._topic = f"node of {demand.partition or 'the default partition'}"
        self._token = secrets.token_hex(8)
        self._folder = StudyPaths(now.study.name).root.absolute() / "logs" / "slurm-check" / self._token
        self._begun = time.time()
        root = data_root(now.study)
        self._env = {**os.environ, **({"HARDSCALE_DATA": str(root)} if root else {})}

    def findings(self) -> Iterator[CheckResult]:
        try:
            self._folder.mkdir(parents=True)
            (self._folder / "token").write_text(self._token, encoding="utf-8")
        except OSError as error:
            text = f"{self._folder}: cannot be written ({error.strerror}); run elsewhere (--directory)"
            yield fail(self._topic, text)
            return
        try:
            yield from self._run()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._folder.parent.rmdir()

    def _run(self) -> Iterator[CheckResult]:
        done = cluster.call("sbatch", "--parsable", *self._options(), f"--wrap={self._command()}", env=self._env)
        if done.returncode:
            yield fail(self._topic, f"sbatch refuses the probe: {cluster.complaint(done)!r}")
            return
        number = int(done.stdout.split(";")[0])
        try:
            yield from self._answered(number)
        finally:
            slurm_queue.cancel(number)

    def _options(self) -> list[str]:
        own = ["--job-name=hs-check", "--export=ALL", f"--chdir={Path.cwd()}", f"--output={self._folder}/output"]
        return [*self._demand.options(), *own]

    def _command(self) -> str:
        """First what needs no Python, so that a missing one is told from a missing folder."""
        folder, python = shlex.quote(str(self._folder)), shlex.quote(sys.executable)
        path = shlex.quote(os.pathsep.join([str(_SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]))
        look = f"PYTHONPATH={path} {python} -m hardscale.ops.slurm_probe {folder}"
        return f"cat {folder}/token > {folder}/seen && {look}; echo $? > {folder}/ended"

    def _answered(self, number: int) -> Iterator[CheckResult]:
        state = self._wait_for_the_end(number)
        read_after = time.time()
        answer = self._read(ANSWER)
        if answer is not None:
            yield from self._judge(json.loads(answer), read_after)
        elif state in _WAITING:
            reason = next((job.reason for job in slurm_queue.jobs([number])), "")
            yield warn(self._topic, f"the probe still waits after {self._wait:.0f} s ({reason}); try again with --wait")
        elif self._read("seen") == self._token:
            last = ((self._read("output") or "").strip() or f"job {number} ended as {state}").splitlines()[-1]
            yield fail(
                self._topic,
                f"Python does not run there ({last}); {sys.executable} and {_SCRIPTS} must be on a file system that "
                "nodes see",
            )
        else:
            yield fail(
                self._topic,
                f"does not see {Path.cwd()} (job {number} ended as {state}); run from a folder that head and nodes "
                "share (--directory)",
            )

    def _wait_for_the_end(self, number: int) -> str | None:
        """Until the job's last word is here, or it ended and the file system had time to show it; its state."""
        begun = time.monotonic()
        ended: float | None = None
        while True:
            state = slurm_queue.state(number)
            moment = time.monotonic()
            ended = ended or (None if state in slurm_queue.LIVE else moment)
            over = ended is not None and moment - ended > _LATE_SECONDS
            if self._read("ended") or over or (state in _WAITING and moment - begun > self._wait):
                return state
            time.sleep(_POLL_SECONDS)

    def _read(self, name: str) -> str | None:
        with contextlib.suppress(OSError):
            return (self._folder / name).read_text(encoding="utf-8", errors="replace")
        return None

    def _judge(self, answer: dict[str, Any], read_after: float) -> Iterator[CheckResult]:
        if "error" in answer:
            yield fail(self._topic, f"{answer['node']}: the library does not load: {answer['error']}; see envs/ for it")
            return
        mine = sys.version.split()[0]
        yield ok(
            self._topic,
            f"{answer['node']} sees this folder, Python {answer['python']}, torch {answer['torch']}, the library"
            + (f", {answer['gpus']} GPU" if self._demand.gpus else ""),
        )
        if answer["python"] != mine:
            yield warn(self._topic, f"Python {answer['python']} there, {mine} here; use one environment for both")
        if self._demand.gpus and not answer["gpus"]:
            yield fail(self._topic, f"was given a GPU that torch {answer['torch']} does not see; install a CUDA build")
        yield from self._judge_places(answer)
        if not self._begun - _SKEW_SECONDS <= answer["time"] <= read_after + _SKEW_SECONDS:
            off = answer["time"] - read_after
            yield warn(self._topic, f"the clock of {answer['node']} is off by {off:+.0f} s; have it set (NTP)")

    def _judge_places(self, answer: dict[str, Any]) -> Iterator[CheckResult]:
        for name, (there, exists) in answer["places"].items():
            here = self._env.get(name, "")
            if there != here:
                yield fail(
                    self._topic, f"{name} is {there!r} there and {here!r} here; let sbatch export the environment"
                )
            elif here and not exists:
                yield fail(self._topic, f"{name}: {here} is not there on {answer['node']}; put it where nodes see it")
            elif here:
                yield ok(self._topic, f"{name}: {here} is there")
