"""The note of a gang on Slurm: which job it is, written before anyone waits for it. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "job.json"


@dataclass(frozen=True)
class Note:
    """A submitted gang.

    Attributes:
        job_id: Slurm's number.
        name: Slurm's job name, ``hs-`` and 12 hex digits of what the job is.
        identity: digest of what is trained: settings, inputs and code.
        folder: submitit's folder, where the results of the ranks appear.
        tasks: ranks.
        submitted: UTC, ISO 8601.
        host: where it was submitted.
    """

    job_id: int
    name: str
    identity: str
    folder: str
    tasks: int
    submitted: str
    host: str

    def write(self, state: Path) -> None:
        """Put the note into a job's state folder, whole or not at all."""
        draft = state / f".{NAME}.{os.getpid()}"
        with draft.open("w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(state / NAME)


def read_note(state: Path) -> Note | None:
    """The note in a state folder; None without one, or when it can not be understood."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Note(**json.loads((state / NAME).read_text(encoding="utf-8")))
    return None


def remove_note(state: Path) -> None:
    """Forget the gang: it has ended."""
    (state / NAME).unlink(missing_ok=True)
