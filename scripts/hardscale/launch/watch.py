"""What a driver sees of its ranks, wherever they run: results, progress, and what went wrong first."""

from __future__ import annotations

import contextlib
import re
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

from hardscale.launch import rank as rank_module
from hardscale.launch.arguments import LaunchRequest
from hardscale.launch.state import full_disk
from hardscale.runtime import console
from hardscale.runtime.stopping import REQUEUE

_ERROR = "] error: "
_LOST_PARTNER = re.compile(r"gloo|nccl|connection (closed|reset)", re.IGNORECASE)
_TRACE = re.compile(r"; the full trace is in .*")
_SETTLE_SECONDS = 1.0
_SETTLE_POLL_SECONDS = 0.05
#: How long the stacks of a rank may take after another one gave up waiting for it.
_STACKS_SECONDS = 30.0
#: What an error says when a rank waited for another in vain: gloo and NCCL, then our meetings.
IN_VAIN = re.compile(r"timed ?out|timeout|no sign of life", re.IGNORECASE)
_DUMP = re.compile(r"^Timeout \(\d+:\d\d:\d\d(?:\.\d+)?\)!\n((?:(?:Thread |  ).*\n|\n)+)", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)$', re.MULTILINE)
#: Code in which a rank waits for others.
_WAITING = ("/torch/distributed/", "/deepspeed/comm/", "/hardscale/training/meeting.py")


class Watch(ABC):
    """One start of a distributed job. Subclasses start it, wait for it and end it.

    Args:
        work: what is run.
        ranks_folder: of this start.
        received: signals that the driver received; a stop is asked for when there is one.
    """

    job: Any  # submitit's

    def __init__(self, work: LaunchRequest, ranks_folder: Path, received: list[int]) -> None:
        self.work, self.ranks, self.ranks_folder, self.received = work, work.ranks, ranks_folder, received
        self._progress: IO[str] | None = None

    @abstractmethod
    def wait(self) -> int:
        """Wait for all ranks; the largest of their exit codes.

        Raises:
            TrainingError: a rank failed or died.
        """

    @abstractmethod
    def gone(self, ended: dict[int, dict[str, Any]]) -> int | None:
        """A rank that is neither running nor has left a result."""

    def results(self) -> dict[int, dict[str, Any]]:
        """Rank -> exit code and last line, of the ranks that have ended in order."""
        from submitit.core.utils import pickle_load

        # Not job.result(): it answers when all ranks are done, and the first to fail must end the others.
        found = {}
        for index in range(self.ranks):
            path = self.job.task(index).paths.result_pickle
            if path.exists():
                kind, result = pickle_load(path)
                found[index] = (
                    result if kind == "success" else {"code": 1, "line": str(result).strip().splitlines()[-1]}
                )
        return found

    def cause(self) -> str:
        """What went wrong first: a rank that died, then one that failed, then one that only lost its partners."""
        deadline = time.monotonic() + (_SETTLE_SECONDS if self.ranks > 1 else 0.0)
        while (gone := self.gone(self.results())) is None and time.monotonic() < deadline:
            time.sleep(_SETTLE_POLL_SECONDS)
        if gone is not None:
            why = full_disk(self.ranks_folder) or " (killed, or out of memory)"
            return self.told_of(gone, f"died without an error message{why}", self.last_line(gone))
        failed = failures(self.results())
        if any(IN_VAIN.search(result["line"]) for result in failed.values()):
            late = self._late_rank()
            if late is not None:
                return self._late(*late)
        index = min(failed, key=lambda i: (bool(_LOST_PARTNER.search(failed[i]["line"])), i))
        return self.told_of(index, "failed", failed[index]["line"] or self.last_line(index))

    def _late_rank(self) -> tuple[int, str] | None:
        """:func:`late_rank`, when the stacks of all ranks are there: on a busy machine some come late."""
        deadline = time.monotonic() + _STACKS_SECONDS
        before, late = None, late_rank(self.ranks_folder, self.ranks)
        while time.monotonic() < deadline:
            if late is None and not without_stacks(self.ranks_folder, self.ranks):
                break
            if late is not None and late == before:  # seen twice, so no stack that is just being written
                break
            time.sleep(_SETTLE_POLL_SECONDS)
            before, late = late, late_rank(self.ranks_folder, self.ranks)
        return late

    def _late(self, index: int, where: str) -> str:
        log = f"; the stacks of all ranks are in {self.work.log}" if self.work.log else ""
        return (
            f"rank {index} of {self.ranks} made no progress while the others waited; it was in {where}{log}; "
            "the same command resumes from the last checkpoint"
        )

    def told_of(self, index: int, how: str, line: str) -> str:
        """One line on one rank's end."""
        line = line.split("] ", 1)[-1].removeprefix("error: ")
        line = _TRACE.sub(f"; the full trace is in {self.work.log}" if self.work.log else "", line)
        if how == "failed" and self.ranks == 1:
            return line
        return f"rank {index} of {self.ranks} {how}; its last line: {line or 'none'}"

    def last_line(self, index: int) -> str:
        """The last line that a rank wrote anywhere."""
        paths = [self.ranks_folder / name for name in (f"rank{index}.said", f"rank{index}.log")]
        if index == 0:
            paths[0] = self.ranks_folder / "progress"
        paths.append(self.job.task(index).paths.stderr)
        for path in paths:
            if line := rank_module.last_line(path):
                return line
        return ""

    def show_progress(self) -> None:
        """Pass on what rank 0 said since the last call."""
        if self._progress is None:
            path = self.ranks_folder / "progress"
            if not path.exists():
                return
            self._progress = path.open(encoding="utf-8", errors="replace")
        for line in self._progress:
            if _ERROR not in line:  # told once, by this process
                console._terminal.write(line)
        console._terminal.flush()


def failures(ended: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The ranks that failed."""
    return {index: result for index, result in ended.items() if result["code"] not in (0, REQUEUE)}


def late_rank(ranks_folder: Path, ranks: int) -> tuple[int, str] | None:
    """The rank that stood still outside of any waiting, and where; None when there is none, or no stacks."""
    for rank in range(ranks):
        frames = _last_dump(ranks_folder / f"rank{rank}.log")
        if frames and not any(map(_waits, frames)):
            innermost = frames[0]
            return rank, f"{innermost['name']}, {innermost['file']}:{innermost['line']}"
    return None


def without_stacks(ranks_folder: Path, ranks: int) -> list[int]:
    """Ranks that have left no stacks, where any has: those of the others are about to come. Empty where none has."""
    missing = [rank for rank in range(ranks) if not _last_dump(ranks_folder / f"rank{rank}.log")]
    return [] if len(missing) == ranks else missing


def _last_dump(log: Path) -> list[re.Match[str]]:
    """Frames of the main thread, innermost first, and after them those in which another thread waits."""
    with contextlib.suppress(OSError):
        dumps = _DUMP.findall(log.read_text(encoding="utf-8", errors="replace"))
        if dumps:
            *others, main = re.split(r"^Thread .*\n", dumps[-1], flags=re.MULTILINE)
            waits = [frame for text in others for frame in _FRAME.finditer(text) if _waits(frame)]
            return [*_FRAME.finditer(main), *waits]
    return []


def _waits(frame: re.Match[str]) -> bool:
    return any(mark in frame["file"] for mark in _WAITING)
