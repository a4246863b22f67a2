"""Removing what :mod:`hardscale.ops.garbage` lists, and when nothing may be removed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST
from hardscale.errors import ArtifactError
from hardscale.ops.garbage import WEIGHTS, Rubbish
from hardscale.ops.job_state import Survey
from hardscale.upkeep.prune import prune_weights

#: ``results/<study>`` and ``.snakemake/slurm_logs`` stay though they be empty.
_KEPT_DEPTH = 2


def refusal(survey: Survey) -> str:
    """Why nothing may be removed now; empty when it may."""
    controller = survey.controller
    if controller is None or controller.alive is False:
        return survey.slurm.problem
    if controller.alive:
        return f"a controller lives ({controller.text}); run gc when it has ended"
    return (
        f"a controller may live ({controller.text}); run gc where it runs, or when none does after `snakemake --unlock`"
    )


def remove(items: Iterable[Rubbish]) -> Iterator[tuple[Rubbish, str]]:
    """Remove one after another; each with the reason why it stays, empty when it is gone."""
    for one in items:
        try:
            yield one, _remove(one)
        except (OSError, ArtifactError) as error:
            yield one, str(error)


def _remove(one: Rubbish) -> str:
    if one.kind == WEIGHTS:
        prune_weights(one.path.parent)
        return ""
    if one.path.is_file():
        one.path.unlink(missing_ok=True)
    else:
        with _undriven(one.path) as free:
            if not free:
                return "a job works in it"
            # Without its manifest a folder is no artifact, however much of it is left.
            (one.path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(one.path)
    _remove_empty(one.path.parent)
    return ""


@contextlib.contextmanager
def _undriven(folder: Path) -> Iterator[bool]:
    """Hold the lock of a state folder or of one in it, so that no driver starts there; False when one has.

    Folders of other kinds have no lock.
    """
    with contextlib.ExitStack() as stack:
        for path in (folder / "driver.lock", folder.parent / "driver.lock"):
            if not path.exists():
                continue
            try:
                fcntl.flock(stack.enter_context(path.open("a")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True


def _remove_empty(folder: Path) -> None:
    """Remove folders that became empty, up to the study's own."""
    with contextlib.suppress(OSError):
        while len(folder.parts) > _KEPT_DEPTH:
            folder.rmdir()
            folder = folder.parent
