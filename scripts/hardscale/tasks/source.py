"""Reading the tables that tasks are made from: local files, a data root in hub layout, or the hub itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from hardscale.artifacts.manifest import sha256_file
from hardscale.errors import DataError
from hardscale.runtime.console import say
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks import hub, hub_table
from hardscale.tasks.folders import SPLIT_NAMES
from hardscale.tasks.formats.files import read_table_file
from hardscale.tasks.formats.table import Table, require
from hardscale.tasks.locate import HubTable, LocalFiles, locate
from hardscale.untrusted.naming import named, numbers

#: Columns to read, or what chooses them of those there are: (file or table, names) -> names.
Columns = tuple[str, ...] | Callable[[str, list[str]], tuple[str, ...]]
#: Columns that a row of a JSON file may lack: Alpaca's second part of a request.
OPTIONAL = ("input",)


@dataclass(frozen=True)
class Row:
    """One row of a source table: its index in the split, its place for messages, the wanted columns."""

    index: int
    file: str
    number: int
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """File and row, the first row of data being row 1."""
        return f"{self.file}: row {self.number}"


@dataclass(frozen=True)
class Source:
    """A table that was read; there is no ``validation`` entry where the source has no such split.

    ``facts`` say where it came from: source, revision and the digest of every local file.
    """

    splits: dict[str, list[Row]]
    files: dict[str, str]
    facts: dict[str, Any]

    def file_of(self, split: str) -> str:
        """The first file of a split, for messages."""
        return self.files.get(split, self.files["train"])


def read_source(name: str, settings: TaskSettings, root: Path | None, columns: tuple[str, ...]) -> Source:
    """Read the wanted columns of a task's table.

    Raises:
        DataError: the table is not here and can not be fetched, a file is unreadable, empty or lacks a column.
    """
    return read_place(name, locate(name, settings, root), root, columns)


def read_place(name: str, place: LocalFiles | HubTable, root: Path | None, columns: Columns) -> Source:
    """Like :func:`read_source`, of a table that was located."""
    if isinstance(place, HubTable):
        return _read_hub(name, place, root, columns)
    return _read_local(place, columns)


def _read_local(place: LocalFiles, columns: Columns) -> Source:
    splits, first = {}, {}
    counts: dict[str, Any] = {}
    for split, paths in (("train", place.train), ("validation", place.validation)):
        if paths:
            tables = [read_table_file(path) for path in paths]
            splits[split] = _rows([(str(table.path), *_taken(columns, table)) for table in tables])
            first[split] = str(paths[0])
            counts |= {_short(table.path): counted(table) for table in tables}
            _check_sum(split, len(splits[split]), sum(table.n_rows for table in tables))
    digests = {_short(path): sha256_file(path) for path in (*place.train, *place.validation)}
    return Source(
        splits, first, {"source": place.origin, "revision": "unpinned", "source_files": digests, "read": counts}
    )


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def counted(table: Table) -> dict[str, Any]:
    """What was read of a file, for the manifest, and said in one line where that is not the whole file."""
    if table.blank_lines:
        say(f"{table.path}: {table.n_rows} rows; {len(table.blank_lines)} blank lines ({numbers(table.blank_lines)})")
    return {"rows": table.n_rows, "blank_lines": len(table.blank_lines)}


def _check_sum(split: str, n_rows: int, n_read: int) -> None:
    if n_rows != n_read:
        raise DataError(f"{split}: {n_read} rows were read and {n_rows} came out; this is a fault of the reader")


def _rows(files: list[tuple[str, dict[str, list[Any]], int]]) -> list[Row]:
    rows: list[Row] = []
    for file, columns, n_rows in files:
        values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        _check_sum(file, len(values), n_rows)
        rows += [Row(len(rows) + i, file, i + 1, value) for i, value in enumerate(values)]
    if not rows:
        raise DataError(f"{files[0][0]}: no rows; give a table with at least one example")
    return rows


def _taken(columns: Columns, table: Table) -> tuple[dict[str, list[Any]], int]:
    wanted = columns(str(table.path), list(table.names)) if callable(columns) else columns
    return table.take(wanted, OPTIONAL), table.n_rows


def column_names(path: Path) -> list[str]:
    """Names of a file's columns, those of every row.

    Raises:
        DataError: the file is unreadable.
    """
    return list(read_table_file(path).names)


def read_columns(path: Path, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    """The wanted columns of a table's file.

    In csv every value is text, so that 007 stays 007.

    Raises:
        DataError: the file is unreadable or truncated, or lacks a column.
    """
    return read_table_file(path).take(columns)


def _read_hub(name: str, table: HubTable, root: Path | None, columns: Columns) -> Source:
    found = hub_table.loaded(name, table, root)
    origin = {"source": f"hub:{table.name}", "revision": table.revision or "unpinned"}
    files_here = hub_table.text_files(name, table, found)
    if files_here:
        source = _read_local(files_here, columns)
        return replace(source, facts={**source.facts, **origin})
    splits, files = {}, {}
    for split, names in SPLIT_NAMES.items():
        theirs = next((name for name in names if name in found), None)
        if theirs is None and split == "train":
            raise DataError(f"{table.name}: no split 'train'; found {named(list(found))}")
        if theirs is None:
            continue
        if table.revision and hub.offline() and split == "train":
            _require_revision(name, table, found[theirs].cache_files)
        files[split] = f"{table.name}, split {theirs}"
        available = found[theirs].column_names
        wanted = columns(files[split], available) if callable(columns) else columns
        require(files[split], wanted, available)
        arrow: pa.Table = found[theirs].select_columns(list(wanted)).with_format("arrow")[:]
        values = {column: arrow.column(column).to_pylist() for column in wanted}
        splits[split] = _rows([(files[split], values, arrow.num_rows)])
    return Source(splits, files, {**origin, "read": {files[split]: {"rows": len(splits[split])} for split in splits}})


def _require_revision(name: str, table: HubTable, cache_files: list[dict[str, str]]) -> None:
    """Offline, the datasets package takes the newest fetched table, whatever its revision."""
    if not any(table.revision in Path(file["filename"]).parts for file in cache_files):
        raise DataError(
            f"tasks.{name}: the cached copy of {table.name} is not revision {table.revision}; run once with network"
        )
