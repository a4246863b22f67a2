"""Deliberate crashes at named places, so that tests can prove that a killed job resumes where it was.

``HARDSCALE_FAULT`` holds ``ACTION:JOB:PLACE=N[:rank=R]``, e.g. ``kill:finetune:step=7``: rank 0 (or R) of that job
sends itself SIGKILL (``kill``), SIGTERM (``term``) or SIGUSR2 (``usr2``) when it reaches the place. Places: ``step``
(before that optimizer step, counted from 1 over the whole job), ``save`` (in that checkpoint, before its manifest is
written), ``attack`` and ``publish`` (of that round), ``examples`` (once the pool and the round hold so many attacked
ones). ``nan`` at a ``step`` makes that step's losses not-a-number.
"""

from __future__ import annotations

import os
import signal

_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "usr2": signal.SIGUSR2}


def wanted(action: str, job: str, place: str, number: int, rank: int) -> bool:
    """Whether the environment asks for this action here."""
    text = os.environ.get("HARDSCALE_FAULT")
    if not text:
        return False
    asked_action, asked_job, *conditions = text.split(":")
    at = dict(condition.split("=") for condition in conditions)
    return (
        (asked_action, asked_job) == (action, job) and at.get(place) == str(number) and at.get("rank", "0") == str(rank)
    )


def trip(job: str, place: str, number: int, rank: int) -> None:
    """Send this process the signal that the environment asks for at this place, if any."""
    if "HARDSCALE_FAULT" not in os.environ:
        return
    for action, signum in _SIGNALS.items():
        if wanted(action, job, place, number, rank):
            os.kill(os.getpid(), signum)
