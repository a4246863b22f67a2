"""Finished parts of a job that publishes several, in its state folder: Snakemake deletes the outputs of failed jobs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import MANIFEST, open_artifact, read_manifest
from hardscale.artifacts.publish import fresh_draft, put_in_place
from hardscale.errors import ArtifactError, TrainingError
from hardscale.training.distributed import Group


class FinishedRounds:
    """The finished rounds of a job in its state, and where each is published.

    Args:
        state: private folder of the job.
        outs: by round.
        group: the ranks.
    """

    def __init__(self, state: Path, outs: Mapping[int, Path], group: Group) -> None:
        self._state, self._outs, self._group = state, outs, group

    def folder(self, number: int) -> Path:
        """Where a finished round stands."""
        return self._state / "finished" / f"round{number:04d}"

    def clear(self) -> None:
        """Forget all rounds; every rank calls it."""
        if self._group.leader:
            shutil.rmtree(self._state / "finished", ignore_errors=True)
        self._group.barrier()

    def must_hold(self, numbers: Iterable[int]) -> None:
        """Refuse to resume from a state that has lost a round.

        Raises:
            TrainingError: names what is gone.
        """
        for number in numbers:
            if not (self.folder(number) / MANIFEST).is_file():
                raise TrainingError(f"{self.folder(number)}: gone from the state; delete {self._state} and run again")

    def holds(self, number: int, spec: dict[str, Any]) -> bool:
        """Whether a round of this spec stands there; every rank calls it."""
        valid = False
        if self._group.leader:
            try:
                valid = open_artifact(self.folder(number), "model")["spec"] == spec
            except ArtifactError:
                valid = False
        return self._group.gather(valid)[0]

    def publish_rounds(self, numbers: Iterable[int]) -> None:
        """Publish finished rounds."""
        if self._group.leader:
            for number in numbers:
                link_tree(self.folder(number), self._outs[number])


def link_tree(source: Path, folder: Path) -> None:
    """Make ``folder`` an equal artifact that shares its files with ``source`` where the file system can."""
    read_manifest(source)
    draft = fresh_draft(folder)
    try:
        shutil.copytree(source, draft, copy_function=_link)
        put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
