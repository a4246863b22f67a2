"""Waiting in tests: for an event. No test judges by the clock: on a busy machine it says nothing of what is tested."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
#: Limit of every wait: only a hang reaches it. pytest's own limit for a test is longer, so that this one says for what.
HANG_SECONDS = 1800.0


def wait_until(happened: Callable[[], T], what: str = "the event", watched: Sequence[subprocess.Popen[Any]] = ()) -> T:
    """Wait until ``happened()`` is true; what it was.

    Raises:
        TimeoutError: it hangs.
        ChildProcessError: one of the watched processes ended before.
    """
    limit = time.monotonic() + HANG_SECONDS
    while True:
        over = [process for process in watched if process.poll() is not None]
        if found := happened():
            return found
        if over:
            raise ChildProcessError(f"{what}: {over[0].args!r} ended with {over[0].returncode}")
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not there after {HANG_SECONDS:g} s")
        time.sleep(0.02)
