"""Tables as CSV that a spreadsheet can not be tricked with."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table; text that a spreadsheet would read as a formula gets a leading apostrophe."""
    safe = frame.copy()
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            safe[name] = safe[name].map(
                lambda value: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
            )
    safe.to_csv(path, index=False, lineterminator="\n")
