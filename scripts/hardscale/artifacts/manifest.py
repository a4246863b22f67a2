"""Manifests: what an artifact is, what made it, and the hash of every file in it."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from hardscale.artifacts.retry import retry_once
from hardscale.errors import ArtifactError

MANIFEST = "manifest.json"


def artifact_folder(text: str) -> Path:
    """The folder of an artifact given by its folder or by its manifest (rules pass manifests)."""
    path = Path(text)
    return path.parent if path.name == MANIFEST else path


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""

    def read() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return retry_once(read, path)


def canonical_json(value: Any) -> str:
    """One spelling of a JSON value: sorted keys, no spaces. What digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def self_digest(manifest: dict[str, Any]) -> str:
    """Digest of a manifest's content without its own digest and the machine: another may make the same."""
    content = {key: value for key, value in manifest.items() if key not in ("self", "machine")}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published artifact.

    Raises:
        ArtifactError: there is none (the artifact was never finished), or it was edited.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(retry_once(lambda: path.read_text(encoding="utf-8"), path))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{folder}: no {MANIFEST}, so it was never finished; run snakemake again to build it"
        ) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: unreadable ({error}); delete the folder and run snakemake again") from error
    if not isinstance(manifest, dict) or manifest.get("self") != self_digest(manifest):
        raise ArtifactError(
            f"{path}: content and its own digest differ (edited?); delete the folder and run snakemake again"
        )
    return manifest


def open_artifact(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of an artifact of a given kind, every listed file present with its size.

    Raises:
        ArtifactError: another kind, a file missing or of another size.
    """
    manifest = read_manifest(folder)
    if manifest["kind"] != kind:
        raise ArtifactError(f"{folder}: found a {manifest['kind']!r} artifact, expected {kind!r}")
    for name, entry in manifest["files"].items():
        path = Path(folder) / name
        if retry_once(functools.partial(_size, path), path) != entry["bytes"]:
            raise ArtifactError(
                f"{path}: missing or of another size than its manifest says; delete {folder} and run again"
            )
    return manifest


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def verify(folder: Path) -> dict[str, Any]:
    """Re-hash every file of an artifact.

    Raises:
        ArtifactError: a file is missing or its bytes differ from the manifest.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest["files"].items():
        path = Path(folder) / name
        if not path.is_file():
            raise ArtifactError(f"{path}: listed in the manifest but missing; delete {folder} and run snakemake again")
        if sha256_file(path) != entry["sha256"]:
            raise ArtifactError(f"{path}: bytes differ from the manifest; delete {folder} and run snakemake again")
    return manifest
