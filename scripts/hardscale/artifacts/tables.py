"""Reading and writing parquet tables so that bad files are refused by name and good ones are byte-stable."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hardscale.artifacts.atomic import private_file
from hardscale.artifacts.retry import retry_once
from hardscale.errors import DataError


def write_table(
    path: Path, rows: pa.Table | Sequence[dict[str, Any]], schema: pa.Schema, private: bool = False
) -> None:
    """Write rows as parquet; the same rows give the same bytes.

    Args:
        path: of the table.
        rows: of it.
        schema: its columns.
        private: whether its owner alone may ever read it; see :func:`~hardscale.artifacts.atomic.private_file`.

    Raises:
        DataError: a row does not fit the schema (missing column, wrong type, null where none is allowed); the line
            names the column and no value.
    """
    try:
        table = rows.cast(schema) if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
        table.validate(full=True)
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        misfit = _misfit(rows, schema)
        raise DataError(f"{path}: rows do not fit the table's columns: {misfit} ({type(error).__name__})") from None
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise DataError(f"{path}: column {field.name!r} holds a null where none is allowed")
    with private_file(path) if private else contextlib.nullcontext(path) as place:
        pq.write_table(table, place, compression="zstd", write_statistics=False)


def _misfit(rows: pa.Table | Sequence[dict[str, Any]], schema: pa.Schema) -> str:
    """The first column that does not fit, found by itself: what pyarrow says of it quotes the value."""
    for field in schema:
        try:
            if isinstance(rows, pa.Table):
                rows.column(field.name).cast(field.type)
            else:
                pa.array([row.get(field.name) for row in rows], field.type)
        except (pa.ArrowException, ValueError, KeyError, TypeError):
            return f"column {field.name!r} is missing or holds something else than {field.type}"
    return "there are other columns"


def read_table(path: Path, schema: pa.Schema | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet table; with a schema, its columns must be there and are cast to its types.

    Columns that the schema allows to be null may be missing; they are added as nulls.

    Raises:
        DataError: the file is missing, truncated or not parquet, or lacks a column.
    """
    path = Path(path)
    if not retry_once(path.is_file, path):
        raise DataError(f"{path}: no such file; run the rule that makes it, or check the path")
    try:
        names = None if columns is None else list(columns)
        table = retry_once(lambda: pq.read_table(path, columns=names, partitioning=None), path)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: not a readable parquet file ({reason}); delete it and run again to rebuild it"
        ) from error
    if schema is None:
        return table
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    missing = [f.name for f in wanted if f.name not in table.column_names and not f.nullable]
    if missing:
        raise DataError(f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(table.column_names)}")
    arrays = [
        table.column(f.name) if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in wanted
    ]
    try:
        return pa.table(arrays, names=wanted.names).cast(wanted)
    except (pa.ArrowException, ValueError) as error:
        misfit = _misfit(pa.table(arrays, names=wanted.names), wanted)
        raise DataError(f"{path}: a column has the wrong type: {misfit} ({type(error).__name__})") from None
