"""Who runs the workflow in a working directory, as one sees who does not want to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hardscale.artifacts.locks import is_held, read_owner
from hardscale.ops.controller import LOCK, NOTE
from hardscale.ops.snakemake_metadata import SNAKEMAKE, locked

#: A note on another host that is older than this is a dead controller's, unless Slurm knows better.
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Controller:
    """A Snakemake run that holds the working directory, or did.

    Attributes:
        alive: None when that can not be told.
        text: who and where, for people.
    """

    alive: bool | None
    text: str


def find_controller(folder: Path = SNAKEMAKE) -> Controller | None:
    """The controller of the working directory; None without a trace of one, or when it is this process."""
    owner = read_owner(folder / NOTE)
    if owner is None:
        return Controller(None, "a Snakemake run, by its locks; it may have been killed") if locked(folder) else None
    if owner.near and owner.pid == os.getpid():
        return None
    return Controller(is_held(folder / NOTE, owner, folder / LOCK, _PATIENCE_SECONDS), owner.described)
