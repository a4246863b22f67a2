"""Single-file results: absent, old or complete, never half-written."""

from __future__ import annotations

import contextlib
import csv
import uuid
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hardscale.artifacts.publish import naming_disk_errors
from hardscale.untrusted.literal import cell


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to; it takes the place of ``path`` when the block ends without an exception.

    Raises:
        ArtifactError: the place cannot be written, or is full.
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


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table; text that a spreadsheet would read as a formula gets a leading apostrophe."""
    safe = frame.copy()
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            safe[name] = safe[name].map(lambda value: cell(value) if isinstance(value, str) else value)
    # Python 3.11 and 3.12 leave a lone carriage return unquoted, and readers take it for the end of a row.
    returns = any(isinstance(value, str) and "\r" in value for name in safe.columns for value in safe[name])
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    safe.to_csv(path, index=False, lineterminator="\n", quoting=quoting)
