"""Starting the ranks of a training job and waiting for them. Imports only submitit and the standard library.

A driver process is small (no torch), so many can wait beside each other. It owns its gang: when the driver is told to
stop the ranks save their state and stop; when it is killed they notice and do the same; when one rank dies the others
are ended and the error names the rank.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hardscale import console
from hardscale.errors import TrainingError
from hardscale.launch import rank as rank_module
from hardscale.launch.lock import is_rank, only_driver
from hardscale.launch.rank import REQUEUE
from hardscale.launch.surroundings import deaf_to_interrupts, environment, noted_signals

WORKER = "hardscale.launch.worker"
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 60.0
_KILL_SECONDS = 15.0
_SETTLE_SECONDS = 1.0
_ERROR = "] error: "
_LOST_PARTNER = re.compile(r"gloo|nccl|connection (closed|reset)", re.IGNORECASE)
_TRACE = re.compile(r"; the full trace is in .*")
_MAX_STARTS = 50
_NO_LIMIT_MINUTES = 60 * 24 * 365


def run_gang(
    command: list[str],
    ranks: int,
    state: Path,
    launch: str,
    label: str,
    threads: int = 1,
    log: Path | None = None,
    worker: str = WORKER,
) -> None:
    """Run a worker in every rank and wait until all are done.

    A gang that saved its state because a rank was told to stop (exit code 85) is started again.

    Args:
        command: job of :mod:`hardscale.launch.worker`, then its options.
        ranks: processes.
        state: private folder of this job; one gang at a time lives in it.
        launch: ``local``: submitit's local executor; ``debug``: one rank, inside this process.
        label: of the lines on the terminal.
        threads: CPU threads of each rank.
        log: where the output of the ranks is appended.
        worker: module whose ``main(job, argv, meeting)`` every rank calls.

    Raises:
        TrainingError: a rank failed or died; the message is its last line.
        SystemExit: this process was told to stop: 128 + signal.
    """
    if launch == "debug" and ranks != 1:
        raise TrainingError(f"--launch debug runs one rank in this process, the study asks for ranks: {ranks}")
    job = _Job(command, ranks, label, threads, log, worker)
    state.mkdir(parents=True, exist_ok=True)
    with only_driver(state / "driver.lock", label), noted_signals() as told:
        for _ in range(_MAX_STARTS):
            gang = state / "gang"
            shutil.rmtree(gang, ignore_errors=True)
            gang.mkdir(parents=True)
            try:
                code = _run_here(job, gang) if launch == "debug" else _Launch(job, gang, told).wait()
            finally:
                _keep_logs(gang, log)
            if told:
                raise SystemExit(128 + told[0])
            if code != REQUEUE:
                break
        else:
            raise TrainingError(f"{label}: stopped and started {_MAX_STARTS} times; something ends its ranks each time")
    shutil.rmtree(state / "gang", ignore_errors=True)
    (state / "driver.lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        state.rmdir()


@dataclass(frozen=True)
class _Job:
    """What is run, as :func:`run_gang` is told it."""

    command: list[str]
    ranks: int
    label: str
    threads: int
    log: Path | None
    worker: str


def _run_here(job: _Job, gang: Path) -> int:
    """Run the worker inside this process, for a debugger."""
    import submitit

    main = importlib.import_module(job.worker).main
    submitted = submitit.DebugExecutor(gang / "submitit").submit(main, job.command[0], job.command[1:], None)
    # results() would open a debugger of its own on an error.
    error = submitted.exception()
    if error is not None:
        raise error
    return 0


class _Launch:
    """One start of a gang through submitit's local executor."""

    def __init__(self, job: _Job, gang: Path, told: list[int]) -> None:
        self._what, self._ranks, self._gang, self._told = job, job.ranks, gang, told
        self._progress: IO[str] | None = None
        self._asked_at: float | None = None
        self._asked: set[int] = set()
        with environment(job.threads), deaf_to_interrupts():
            self._job = self._submit()

    def _submit(self) -> Any:
        import submitit

        executor = submitit.LocalExecutor(self._gang / "submitit")
        executor.update_parameters(tasks_per_node=self._ranks, timeout_min=_NO_LIMIT_MINUTES)
        name, *options = self._what.command
        return executor.submit(rank_module.run, self._what.worker, name, options, self._what.label, self._gang, True)

    def wait(self) -> int:
        """Wait for all ranks; the largest of their exit codes.

        Raises:
            TrainingError: a rank failed or died.
        """
        try:
            while True:
                self._show_progress()
                ended = self._results()
                gone = self._gone(ended)
                if self._told and self._stopped(ended, gone):
                    return REQUEUE
                if not self._told and (gone is not None or _failed(ended)):
                    raise TrainingError(self._cause())
                if len(ended) == self._ranks:
                    return max(result["code"] for result in ended.values())
                time.sleep(_POLL_SECONDS)
        finally:
            self._end()
            self._show_progress()

    def _results(self) -> dict[int, dict[str, Any]]:
        from submitit.core.utils import pickle_load

        # Not job.result(): it answers when all ranks are done, and the first to fail must end the others.
        found = {}
        for index in range(self._ranks):
            path = self._job.task(index).paths.result_pickle
            if path.exists():
                kind, result = pickle_load(path)
                found[index] = (
                    result if kind == "success" else {"code": 1, "line": str(result).strip().splitlines()[-1]}
                )
        return found

    def _gone(self, ended: dict[int, dict[str, Any]]) -> int | None:
        """A rank that is neither running nor has left a result."""
        over = self._job.done()
        for index in range(self._ranks):
            pid = self._pid(index)
            ended_now = over or (pid is not None and not rank_module.lives(pid))
            if index not in ended and ended_now and not self._job.task(index).paths.result_pickle.exists():
                return index
        return None

    def _pid(self, index: int) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self._gang / f"rank{index}.pid").read_text())
        return None

    def _stopped(self, ended: dict[int, dict[str, Any]], gone: int | None) -> bool:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            console.say("stopping; the ranks save their state")
        asked = {index for index in range(self._ranks) if self._pid(index) is not None} - self._asked
        self._signal(signal.SIGTERM, asked)
        self._asked |= asked
        over = gone is not None or _failed(ended) or len(ended) == self._ranks
        return bool(over) or time.monotonic() - self._asked_at > _GRACE_SECONDS

    def _cause(self) -> str:
        """What went wrong first: a rank that died, then one that failed, then one that only lost its partners."""
        deadline = time.monotonic() + (_SETTLE_SECONDS if self._ranks > 1 else 0.0)
        while (gone := self._gone(self._results())) is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if gone is not None:
            return self._told_of(gone, "died without a word (killed, or out of memory)", self._last_line(gone))
        failed = _failed(self._results())
        index = min(failed, key=lambda i: (bool(_LOST_PARTNER.search(failed[i]["line"])), i))
        return self._told_of(index, "failed", failed[index]["line"] or self._last_line(index))

    def _told_of(self, index: int, how: str, line: str) -> str:
        line = line.split("] ", 1)[-1].removeprefix("error: ")
        line = _TRACE.sub(f"; the full trace is in {self._what.log}" if self._what.log else "", line)
        if how == "failed" and self._ranks == 1:
            return line
        return f"rank {index} of {self._ranks} {how}; its last line: {line or 'none'}"

    def _last_line(self, index: int) -> str:
        paths = [self._gang / name for name in (f"rank{index}.said", f"rank{index}.log")]
        if index == 0:
            paths[0] = self._gang / "progress"
        paths.append(self._job.task(index).paths.stderr)
        for path in paths:
            if line := rank_module.last_line(path):
                return line
        return ""

    def _show_progress(self) -> None:
        if self._progress is None:
            path = self._gang / "progress"
            if not path.exists():
                return
            self._progress = path.open(encoding="utf-8", errors="replace")
        for line in self._progress:
            if _ERROR not in line:  # told once, by this process
                console._terminal.write(line)
        console._terminal.flush()

    def _signal(self, signum: int, ranks: Iterable[int]) -> None:
        for index in ranks:
            pid = self._pid(index)
            if pid is not None and is_rank(pid, self._gang):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)

    def _end(self) -> None:
        """Leave no process behind."""
        process = getattr(self._job, "_process", None)
        if process is None:
            return
        deadline = time.monotonic() + 2.0
        while process.poll() is None and time.monotonic() < deadline and len(self._results()) == self._ranks:
            time.sleep(0.02)
        deadline = time.monotonic() + _KILL_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            self._signal(signal.SIGKILL, range(self._ranks))  # again: a rank that is still starting has no pid file yet
            time.sleep(_POLL_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


def _failed(ended: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {index: result for index, result in ended.items() if result["code"] not in (0, REQUEUE)}


def _keep_logs(gang: Path, log: Path | None) -> None:
    """Append what the ranks wrote to the job's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    if log is None:
        return
    with log.open("ab") as out:
        for path in sorted([*gang.glob("rank*.log"), *gang.glob("rank*.said"), *gang.glob("submitit/*_log.*")]):
            text = path.read_bytes()
            if text.strip():
                out.write(f"--- {path.name}\n".encode() + text)
