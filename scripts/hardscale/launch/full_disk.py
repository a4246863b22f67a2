"""A disk that is full while ranks work on it: one line that names it, though the line itself finds little room.

The folder in which a rank says what went wrong lies beside the checkpoints that filled the disk. So a rank empties its
half-written checkpoint, and a driver that gets no word from its ranks looks at the disk itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hardscale.artifacts.publish import naming_disk_errors, of_full_disk
from hardscale.errors import HardscaleError

#: Less than this is full: no checkpoint is so small.
_FULL_BYTES = 2**16
#: What makes a checkpoint count (:mod:`hardscale.training.checkpoint`).
_SEAL = "seal.json"


@contextlib.contextmanager
def naming_a_full_disk(state: Path, checkpoints: Path | None = None) -> Iterator[None]:
    """Turn what a full disk does into one line that names the place.

    Args:
        state: what the line names when the error does not.
        checkpoints: where the half-written one is emptied, to make room for that line. Only for ranks: one that fails
            keeps the others from finishing it.

    Raises:
        ArtifactError: the disk is full; other errors pass.
    """
    try:
        yield
    except Exception as error:
        if not of_full_disk(error):
            raise
        if checkpoints is not None:
            _empty_half_written(checkpoints)
        if isinstance(error, HardscaleError):
            raise
        with naming_disk_errors(state):
            raise


def full_disk(folder: Path) -> str:
    """What to add to an error when nothing more can be written to a folder; empty when something can."""
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
        if free < _FULL_BYTES:
            return (
                f"; the disk of {folder} is full ({free / 2**20:.1f} MiB free): free some space, "
                "then the same command goes on from the last checkpoint"
            )
    return ""


def _empty_half_written(checkpoints: Path) -> None:
    # Emptied, not removed: another rank may be about to write there, and would tell of a folder that is gone.
    for tag in checkpoints.glob("step*"):
        if not (tag / _SEAL).exists():
            for path in tag.rglob("*"):
                with contextlib.suppress(OSError):
                    if path.is_file():
                        os.truncate(path, 0)
