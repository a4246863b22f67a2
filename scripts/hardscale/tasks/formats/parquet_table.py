"""Parquet tables; a value that cannot be read is named by column, never shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hardscale.errors import DataError
from hardscale.tasks.formats.table import Table
from hardscale.untrusted.guarded import opened
from hardscale.untrusted.naming import brief

WHAT = "a table"
#: More rows than any study reads; a few bytes of a file can claim to be as many as they like.
MAX_ROWS = 100_000_000


def read_parquet(path: Path) -> Table:
    """The table in a parquet file; columns are read when they are asked for.

    Raises:
        DataError: it is not a readable parquet file.
    """
    with opened(path, WHAT) as stream, _naming(path), pq.ParquetFile(stream) as file:
        names, n_rows = tuple(file.schema_arrow.names), file.metadata.num_rows
    if n_rows > MAX_ROWS:
        raise DataError(f"{path}: {n_rows:,} rows, allowed are at most {MAX_ROWS:,}; give a part of the table")
    return Table(path, names, n_rows, lambda name: _values(path, name))


def _values(path: Path, name: str) -> list[Any]:
    with opened(path, WHAT) as stream, _naming(path, name):
        with pq.ParquetFile(stream, page_checksum_verification=True) as file:
            column = file.read(columns=[name], use_threads=False).column(name)
        column.validate(full=True)  # texts are UTF-8, lists end where they should
        return column.to_pylist()


@contextlib.contextmanager
def _naming(path: Path, column: str | None = None) -> Iterator[None]:
    """Turn whatever a broken file leads its reader to into one line, without what the reader quotes."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pyarrow's own, and by way of Python ValueError, OSError, KeyError or TypeError
        where = f", column {brief(column)}" if column else ""
        raise DataError(
            f"{path}: not a readable parquet file{where} ({type(error).__name__}: damaged, cut off, or a value that "
            "cannot be read); fetch or write it again"
        ) from None
