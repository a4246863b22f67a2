"""Signs of life of a rank among others, and where it stood when they stopped. Standard library only.

Whatever works says :func:`beat` at every piece of work that a healthy rank finishes within minutes. A rank that has not
for most of its patience leaves the stacks of its threads in its log, by a thread that needs no interpreter; the others
take it for dead when the whole patience is over.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable

#: Shares of the patience: stacks are written before anybody gives up; beats closer than this count as one.
_STACKS, _BETWEEN = 0.8, 0.05
_STDERR = 2

_patience = 0.0
_next = float("inf")
_tell: Callable[[], object] = int


def start(patience: float, tell: Callable[[], object]) -> None:
    """Begin to beat.

    Args:
        patience: seconds without a beat after which this rank is taken for dead.
        tell: lets the other ranks know of a beat.
    """
    global _patience, _next, _tell
    _patience, _next, _tell = patience, 0.0, tell
    beat()


def beat() -> None:
    """Say that this rank is alive and gets on. Costs nothing in a process that never started."""
    global _next
    now = time.monotonic()
    if now < _next:
        return
    _next = now + _BETWEEN * _patience
    faulthandler.dump_traceback_later(_STACKS * _patience, file=_STDERR)
    _tell()


def stop() -> None:
    """The work is done."""
    global _next
    _next = float("inf")
    faulthandler.cancel_dump_traceback_later()
