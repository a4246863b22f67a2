"""The drift record of a study: one row for each thing that a run of cron compared, appended run by run."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from hardscale.analysis.outputs import replacing
from hardscale.artifacts.tables import read_table, write_table
from hardscale.ops.outcome import Finding, exit_status

# Not with the other tables' columns in artifacts.schemas: that module belongs to the code of every job, and a column
# more of this table would make every study anew.
#: Columns of drift/drift.parquet. ``changes``: what differs since the pin, as ``torch 2.13.0 -> 2.14.0``.
DRIFT = pa.schema(
    [
        pa.field("date", pa.timestamp("s", tz="UTC"), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("what", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("expected", pa.string()),
        pa.field("found", pa.string()),
        pa.field("max_difference", pa.float64()),
        pa.field("changes", pa.list_(pa.string()), nullable=False),
        pa.field("seed", pa.int64()),
        pa.field("exit", pa.int64(), nullable=False),
    ]
)
#: Rows of one run: a study of which every artifact is damaged needs no longer list.
MOST_ROWS = 500


def append(
    path: Path,
    date: datetime.datetime,
    mode: str,
    findings: Sequence[Finding],
    changes: Sequence[str],
    seed: int | None = None,
) -> pa.Table:
    """Append a run to the record; the whole record.

    Raises:
        DataError: the record is there but can not be read.
        ArtifactError: it can not be written.
    """
    ordered = sorted(findings, key=lambda finding: finding.good)
    rows = [
        {
            "date": date,
            "mode": mode,
            "what": finding.what,
            "status": finding.status,
            "expected": finding.expected or None,
            "found": finding.found or None,
            "max_difference": finding.max_difference,
            "changes": list(changes),
            "seed": seed,
            "exit": exit_status(findings),
        }
        for finding in ordered[:MOST_ROWS]
    ]
    before = read_table(path, DRIFT) if path.is_file() else DRIFT.empty_table()
    table = pa.concat_tables([before, pa.Table.from_pylist(rows, schema=DRIFT)])
    with replacing(path) as draft:
        write_table(draft, table, DRIFT)
    return table
