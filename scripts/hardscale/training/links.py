"""Equal folders that share their files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hardscale.artifacts.manifest import read_manifest


def link_tree(source: Path, folder: Path) -> None:
    """Make ``folder`` an equal artifact that shares its files with ``source`` where the file system can."""
    read_manifest(source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.tmp-link"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, copy_function=_link)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
