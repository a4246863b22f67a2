"""Which artifacts the results of a study hold, and which of them are damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST, verify
from hardscale.errors import ArtifactError

#: Folders beside the artifacts; what lies there is no artifact, or not a finished one.
_BESIDE = frozenset({"state", "logs", "benchmarks", "tables", "figures", "drift", "reference"})


@dataclass(frozen=True)
class Damage:
    """An artifact folder that can not be read as what it was published as. ``half``: it has no manifest at all."""

    folder: Path
    reason: str
    half: bool = False


def artifacts(root: Path) -> list[Path]:
    """Folders with a manifest under ``results/<study>``, in order."""
    return sorted(folder for folder, whole in _folders(root) if whole)


def unfinished(root: Path) -> list[Path]:
    """Folders that hold files where an artifact belongs, but no manifest."""
    return sorted(folder for folder, whole in _folders(root) if not whole)


def damages(root: Path, each: Callable[[], None] = lambda: None) -> list[Damage]:
    """Re-hash every artifact; ``each`` is called after each of them."""
    found = [Damage(folder, f"{folder}: files without a {MANIFEST}", half=True) for folder in unfinished(root)]
    for folder in artifacts(root):
        try:
            verify(folder)
        except ArtifactError as error:
            found.append(Damage(folder, str(error)))
        each()
    return sorted(found, key=lambda damage: damage.folder)


def _folders(root: Path) -> Iterator[tuple[Path, bool]]:
    """The highest folders with files in them, and whether one of these files is a manifest. Drafts are hidden ones."""
    if not root.is_dir():
        return
    for start in sorted(root.iterdir()):
        if not start.is_dir() or start.name in _BESIDE or start.name.startswith("."):
            continue
        for name, below, files in os.walk(start):
            below[:] = sorted(one for one in below if not one.startswith("."))
            if any(not file.startswith(".") for file in files):
                below.clear()
                yield Path(name), MANIFEST in files
