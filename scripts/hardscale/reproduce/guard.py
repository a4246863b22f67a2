"""Results are read only while nobody writes them: who controls the working directory, if anybody does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from hardscale.ops.outcome import BUSY, StoppedError
from hardscale.upkeep.controller import find_controller


@contextlib.contextmanager
def undisturbed(directory: Path) -> Iterator[None]:
    """A stretch in which nobody may write the results that are read in it. It keeps nobody from starting.

    Raises:
        StoppedError: with status 75, a controller works there before or after the stretch.
    """
    _free(directory)
    try:
        yield
    finally:
        _free(directory)  # what was found meanwhile, damage too, may be its work


def _free(directory: Path) -> None:
    found = find_controller(directory / ".snakemake")
    if found is not None and found.alive:
        line = f"{directory}: another controller works here ({found.text}); nothing was compared, try again later"
        raise StoppedError(line, BUSY)
