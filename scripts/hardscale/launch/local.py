"""A distributed job on this machine, through submitit's local executor."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hardscale.errors import TrainingError
from hardscale.launch import rank as rank_module
from hardscale.launch.arguments import LaunchRequest
from hardscale.launch.lock import is_rank
from hardscale.launch.rank import environment, ignore_sigint
from hardscale.launch.watch import Watch, failures
from hardscale.runtime import console
from hardscale.runtime.stopping import REQUEUE

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 60.0
_KILL_SECONDS = 15.0
_NO_LIMIT_MINUTES = 60 * 24 * 365


class LocalRanks(Watch):
    """One start of a distributed job through submitit's local executor."""

    def __init__(self, work: LaunchRequest, ranks_folder: Path, received: list[int]) -> None:
        super().__init__(work, ranks_folder, received)
        self._asked_at: float | None = None
        self._asked: set[int] = set()
        with environment(work.threads), ignore_sigint():
            self.job = self._submit()

    def _submit(self) -> Any:
        import submitit

        executor = submitit.LocalExecutor(self.ranks_folder / "submitit")
        executor.update_parameters(tasks_per_node=self.ranks, timeout_min=_NO_LIMIT_MINUTES)
        name, *options = self.work.command
        return executor.submit(
            rank_module.run, self.work.worker, name, options, self.work.label, self.ranks_folder, True
        )

    def wait(self) -> int:
        """Wait for all ranks; the largest of their exit codes.

        Raises:
            TrainingError: a rank failed or died.
        """
        try:
            while True:
                self.show_progress()
                ended = self.results()
                gone = self.gone(ended)
                if self.received and self._stopped(ended, gone):
                    return REQUEUE
                if not self.received and (gone is not None or failures(ended)):
                    raise TrainingError(self.cause())
                if len(ended) == self.ranks:
                    return max(result["code"] for result in ended.values())
                time.sleep(_POLL_SECONDS)
        finally:
            self._end()
            self.show_progress()

    def gone(self, ended: dict[int, dict[str, Any]]) -> int | None:
        """A rank that is neither running nor has left a result."""
        over = self.job.done()
        for index in range(self.ranks):
            pid = self._pid(index)
            ended_now = over or (pid is not None and not rank_module.lives(pid))
            if index not in ended and ended_now and not self.job.task(index).paths.result_pickle.exists():
                return index
        return None

    def _pid(self, index: int) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.ranks_folder / f"rank{index}.pid").read_text())
        return None

    def _stopped(self, ended: dict[int, dict[str, Any]], gone: int | None) -> bool:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            console.say("stopping; the ranks save their state")
        asked = {index for index in range(self.ranks) if self._pid(index) is not None} - self._asked
        self._signal(signal.SIGTERM, asked)
        self._asked |= asked
        over = gone is not None or failures(ended) or len(ended) == self.ranks
        return bool(over) or time.monotonic() - self._asked_at > _GRACE_SECONDS

    def _signal(self, signum: int, ranks: Iterable[int]) -> None:
        for index in ranks:
            pid = self._pid(index)
            if pid is not None and is_rank(pid, self.ranks_folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)

    def _end(self) -> None:
        """Leave no process behind."""
        process = getattr(self.job, "_process", None)
        if process is None:
            return
        deadline = time.monotonic() + 2.0
        while process.poll() is None and time.monotonic() < deadline and len(self.results()) == self.ranks:
            time.sleep(0.02)
        deadline = time.monotonic() + _KILL_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            self._signal(signal.SIGKILL, range(self.ranks))  # again: a rank that is still starting has no pid file yet
            time.sleep(_POLL_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()
