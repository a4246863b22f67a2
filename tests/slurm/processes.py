"""Processes by more than their number: a number is used again, so its start time goes with it."""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # cluster.py is a program, too

from waiting import wait_until


@dataclass(frozen=True)
class Process:
    """A process that was seen to live; ``start`` is the kernel's clock, None when it had ended before the look."""

    name: str
    pid: int
    start: int | None

    @property
    def alive(self) -> bool:
        return self.start is not None and start_of(self.pid) == self.start


def start_of(pid: int) -> int | None:
    """When a process was started; None for no process and for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty when it is gone or another user's."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(item.split("=", 1) for item in raw.split("\0") if "=" in item)


def all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def end_all(processes: list[Process], number: int) -> None:
    """Send a signal to those that live and wait until all are gone."""
    for process in processes:
        if process.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
    wait_until(lambda: not any(process.alive for process in processes), "the end of processes")
