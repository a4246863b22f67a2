"""Atomic publishing: an artifact is either absent or complete.

A draft is written beside its final place, every file is hashed and synced, the manifest is written last and the
folder is renamed into place. Nothing that reads artifacts accepts a folder without a manifest.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardscale.artifacts.atomic import draft_of, naming_disk_errors, sync, write_whole
from hardscale.artifacts.manifest import MANIFEST, read_manifest, self_digest, sha256_file
from hardscale.artifacts.retry import rename
from hardscale.runtime import pulse
from hardscale.runtime.processor import machine

#: Files that legitimately differ between equal runs; they ride along unhashed.
UNHASHED = frozenset({"timing.parquet"})
#: Folders whose content is checked by a seal of its own: state that the next job resumes from.
SEALED = frozenset({"carry"})
_PACKAGES = ("torch", "transformers", "tokenizers", "deepspeed", "datasets", "pyarrow", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Python and the packages whose version can change a number."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    torch = sys.modules.get("torch")  # only jobs that compute with it have loaded it
    if torch is not None and torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
    return found


class Draft:
    """A folder being written; ``note`` adds facts to its manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = {}

    def note(self, **facts: Any) -> None:
        """Add JSON facts to the manifest."""
        self.facts.update(facts)


@contextlib.contextmanager
def publishing(folder: Path, kind: str, spec: dict[str, Any], inputs: dict[str, Path] | None = None) -> Iterator[Draft]:
    """Write an artifact folder; it appears whole when the block ends without an exception.

    Args:
        folder: final place; what stands there is replaced.
        kind: what the artifact is, checked by its readers.
        spec: the settings that made it, kept in the manifest.
        inputs: artifact folders it was made from; the digests of their manifests are kept.
    """
    folder = Path(folder)
    with naming_disk_errors(folder):
        draft = Draft(fresh_draft(folder))
        draft.path.mkdir()
    try:
        with naming_disk_errors(folder):
            yield draft
            _finish(draft, folder, kind, spec, inputs or {})
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)


def _finish(draft: Draft, folder: Path, kind: str, spec: dict[str, Any], inputs: dict[str, Path]) -> None:
    files = {}
    for path in sorted(p for p in draft.path.rglob("*") if p.is_file()):
        name = path.relative_to(draft.path).as_posix()
        pulse.beat()  # while one rank publishes the others wait
        if path.name not in UNHASHED and not SEALED & set(path.relative_to(draft.path).parts[:-1]):
            files[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        sync(path)
    manifest: dict[str, Any] = {
        "kind": kind,
        "spec": spec,
        "files": files,
        "inputs": {name: read_manifest(path)["self"] for name, path in sorted(inputs.items())},
        "facts": draft.facts,
        "versions": versions(),
        "machine": machine(),
    }
    manifest["self"] = self_digest(manifest)
    write_whole(draft.path / MANIFEST, manifest_text(manifest), synced=True)
    put_in_place(draft.path, folder)


def fresh_draft(folder: Path) -> Path:
    """A name beside a folder for what will take its place; drafts that killed writers of it left are removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(f".{folder.name}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    return draft_of(folder)


def manifest_text(manifest: dict[str, Any]) -> str:
    """How a manifest is written."""
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def put_in_place(draft: Path, folder: Path) -> None:
    """Let a folder that is written take the place of another, or of none.

    Args:
        draft: the folder, its files synced; it stands beside its final place.
        folder: final place; what stands there is removed once the new one has its name.

    Raises:
        ArtifactError: the file system fails twice.
    """
    sync(draft)
    if folder.exists():
        trash = draft.with_name(draft.name + "-old")
        rename(folder, trash)
        rename(draft, folder)
        shutil.rmtree(trash, ignore_errors=True)
    else:
        rename(draft, folder)
    sync(folder.parent)
