"""Being told to stop: SIGTERM, or SIGUSR2 as Slurm sends it before it takes the nodes away."""

from __future__ import annotations

import signal
from typing import Any

#: Exit code of a process that saved its state, or had none yet, because it was told to stop: start it again.
REQUEUE = 85
#: Signals that told this process to stop, since it began to listen.
received: list[int] = []


def listen() -> None:
    """Note the signals instead of dying of them; whoever works looks into :data:`received` where it can stop."""
    received.clear()
    for signum in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(signum, _note)


def leave_at_once() -> None:
    """Until the work listens: nothing is to be saved yet, so a signal ends this process with 85."""
    received.clear()
    for signum in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(signum, _leave)


def _note(signum: int, frame: Any) -> None:  # noqa: ARG001
    received.append(signum)


def _leave(signum: int, frame: Any) -> None:
    _note(signum, frame)
    raise SystemExit(REQUEUE)
