"""Atomic publishing: an artifact is either absent or complete.

A draft is written beside its final place, every file is hashed and synced, the manifest is written last and the
folder is renamed into place. Nothing that reads artifacts accepts a folder without a manifest.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import MANIFEST, read_manifest, self_digest, sha256_file
from hardscale.artifacts.retry import SHAKY, rename
from hardscale.errors import ArtifactError
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
        folder.parent.mkdir(parents=True, exist_ok=True)
        for stale in folder.parent.glob(f".{folder.name}.tmp-*"):
            shutil.rmtree(stale, ignore_errors=True)
        draft = Draft(folder.parent / f".{folder.name}.tmp-{uuid.uuid4().hex[:12]}")
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
        _sync(path)
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
    path = draft.path / MANIFEST
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    _sync(path)
    _sync(draft.path)
    if folder.exists():
        trash = draft.path.with_name(draft.path.name + "-old")
        rename(folder, trash)
        rename(draft.path, folder)
        shutil.rmtree(trash, ignore_errors=True)
    else:
        rename(draft.path, folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


#: What libraries that hide the system's error say of a full disk: safetensors, then torch's archive writer.
_FULL = ("no space left on device", "inline_container")


def of_full_disk(error: BaseException) -> bool:
    """Whether an error says that the disk, or a quota on it, is full."""
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return full or any(sign in str(error).lower() for sign in _FULL)


@contextlib.contextmanager
def naming_disk_errors(folder: Path) -> Iterator[None]:
    """Turn a place that cannot be written, or is full, into one line that names it and the space that is left.

    Raises:
        ArtifactError: for such errors; others pass.
    """
    try:
        yield
    except OSError as error:
        known = error.errno in {errno.ENOSPC, errno.EDQUOT, *SHAKY}
        if error.errno is None or not (known or error.filename):
            raise
        raise _unwritable(error.filename or folder, os.strerror(error.errno), folder) from error
    except Exception as error:
        if not of_full_disk(error):
            raise
        raise _unwritable(folder, os.strerror(errno.ENOSPC), folder) from error


def _unwritable(place: Any, reason: str, folder: Path) -> ArtifactError:
    free = shutil.disk_usage(_existing(folder)).free / 2**20
    return ArtifactError(
        f"{place}: {reason} ({free:.1f} MiB free); nothing was published, "
        "fix the place or point results elsewhere with --directory, then run again"
    )


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
