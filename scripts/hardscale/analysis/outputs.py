"""Write CSV safely for spreadsheets."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from hardscale.untrusted.literal import cell


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
