"""Giving up the weights of a published model whose record stays: as if training had published it without them."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST, read_manifest, self_digest

MODEL = "model"


def prune_weights(folder: Path) -> None:
    """Remove ``model/`` from a published model and from its manifest, which keeps its time.

    The manifest becomes the one that training writes for a round whose weights the study does not ask for. It is
    replaced first, so that the artifact is valid at every moment.

    Raises:
        ArtifactError: the manifest is missing or was edited.
    """
    manifest = read_manifest(folder)
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if not name.startswith(f"{MODEL}/")}
    manifest["facts"]["has_weights"] = False
    manifest["self"] = self_digest(manifest)
    path = folder / MANIFEST
    draft = folder / f".{MANIFEST}.{uuid.uuid4().hex[:12]}"
    with draft.open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    before = path.stat()
    os.utime(draft, ns=(before.st_atime_ns, before.st_mtime_ns))
    draft.replace(path)
    shutil.rmtree(folder / MODEL)
