"""Signals that ask a process to end, put off for a while. Standard library only."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying of them."""
    received: list[int] = []

    def note(signum: int, frame: Any) -> None:  # noqa: ARG001
        received.append(signum)

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.signal(signum, note) for signum in names}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """A few lines that run to their end: a signal that comes meanwhile is delivered after them.

    Python delivers signals to its main thread only; in another one nothing needs to be held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    try:
        with noted_signals() as received:
            yield
    finally:
        for signum in dict.fromkeys(received):
            signal.raise_signal(signum)
