"""Which rank kept the others waiting, by the stacks that ranks leave in their logs (:mod:`hardscale.runtime.pulse`)."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

#: What an error says when a rank waited for another in vain: gloo and NCCL, then our meetings.
IN_VAIN = re.compile(r"timed ?out|timeout|no sign of life", re.IGNORECASE)

_DUMP = re.compile(r"^Timeout \(\d+:\d\d:\d\d(?:\.\d+)?\)!\n((?:(?:Thread |  ).*\n|\n)+)", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)$', re.MULTILINE)
#: Code in which a rank waits for others.
_WAITING = ("/torch/distributed/", "/deepspeed/comm/", "/hardscale/training/meeting.py")


def late_rank(gang: Path, ranks: int) -> tuple[int, str] | None:
    """The rank that stood still outside of any waiting, and where; None when there is none, or no stacks."""
    for rank in range(ranks):
        frames = _last_dump(gang / f"rank{rank}.log")
        if frames and not any(map(_waits, frames)):
            innermost = frames[0]
            return rank, f"{innermost['name']}, {innermost['file']}:{innermost['line']}"
    return None


def without_stacks(gang: Path, ranks: int) -> list[int]:
    """Ranks that have left no stacks, where any has: those of the others are about to come. None where none has."""
    missing = [rank for rank in range(ranks) if not _last_dump(gang / f"rank{rank}.log")]
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
