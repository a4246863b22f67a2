"""Single-file results: absent, old or complete, never half-written."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from hardscale.artifacts.publish import naming_disk_errors


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to; it takes the place of ``path`` when the block ends without an exception.

    Raises:
        ArtifactError: the place can not be written, or is full.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")
    try:
        with naming_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
