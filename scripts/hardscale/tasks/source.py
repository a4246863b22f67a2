"""Reading the tables that tasks are made from: local files, a data root in hub layout, or the hub itself."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from hardscale.artifacts.manifest import sha256_file
from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks import hub
from hardscale.tasks.locate import SPLIT_NAMES, HubTable, LocalFiles, locate

#: Columns to read, or what chooses them of those there are: (file or table, names) -> names.
Columns = tuple[str, ...] | Callable[[str, list[str]], tuple[str, ...]]


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
    for split, paths in (("train", place.train), ("validation", place.validation)):
        if paths:
            splits[split] = _rows([(str(path), read_columns(path, _wanted(columns, path))) for path in paths])
            first[split] = str(paths[0])
    digests = {f"{path.parent.name}/{path.name}": sha256_file(path) for path in (*place.train, *place.validation)}
    return Source(splits, first, {"source": place.origin, "revision": "unpinned", "source_files": digests})


def _rows(files: list[tuple[str, dict[str, list[Any]]]]) -> list[Row]:
    rows: list[Row] = []
    for file, columns in files:
        values = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        rows += [Row(len(rows) + i, file, i + 1, value) for i, value in enumerate(values)]
    if not rows:
        raise DataError(f"{files[0][0]}: no rows; give a table with at least one example")
    return rows


def _wanted(columns: Columns, path: Path) -> tuple[str, ...]:
    return columns(str(path), column_names(path)) if callable(columns) else columns


def column_names(path: Path) -> list[str]:
    """Names of a file's columns; of a jsonl file those of its first row.

    Raises:
        DataError: the file is unreadable.
    """
    if path.suffix == ".parquet":
        with _readable(path), pq.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    if path.suffix == ".csv":
        with _readable(path), path.open(newline="", encoding="utf-8-sig") as text:
            return next(csv.reader(text), [])
    with _readable(path), gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        first = json.loads(next((line for line in file if line.strip()), b"{}"))
        return list(first) if isinstance(first, dict) else []


def read_columns(path: Path, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    """The wanted columns of a csv, jsonl, jsonl.gz or parquet file.

    In csv every value is text, so that 007 stays 007.

    Raises:
        DataError: the file is unreadable or truncated, or lacks a column.
    """
    reader = _read_parquet if path.suffix == ".parquet" else _read_csv if path.suffix == ".csv" else _read_jsonl
    with _readable(path):
        return reader(path, columns)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a malformed file leads its reader into to one line.

    Raises:
        DataError: for such errors.
    """
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: not a readable {path.suffix.lstrip('.')} file ({reason}); fetch or write it again"
        ) from error


def _read_parquet(path: Path, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    with pq.ParquetFile(path) as file:
        _require(path, columns, file.schema_arrow.names)
        return _lists(file.read(columns=list(columns), use_threads=False), columns)


def _read_csv(path: Path, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; give a table with a header and rows")
    table = pyarrow.csv.read_csv(
        path,
        # One block, so that no row is too long for a block.
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=min(max(path.stat().st_size + 1, 1 << 20), 2**31 - 1)
        ),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
        ),
    )
    _require(path, columns, table.column_names)
    return _lists(table, columns)


def _read_jsonl(path: Path, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {column: [] for column in columns}
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            number += 1
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{path}: row {number} is not JSON ({error}); mend the line, or fetch the file again"
                ) from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: row {number} is {type(row).__name__}, expected an object with the columns")
            for column in columns:
                if column not in row:
                    raise DataError(f"{path}: row {number} has no column {column!r}; found {_named(list(row))}")
                values[column].append(row[column])
    return values


def _lists(table: pa.Table, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    return {column: table.column(column).to_pylist() for column in columns}


def _require(path: Path | str, columns: tuple[str, ...], found: list[str]) -> None:
    for column in columns:
        if found.count(column) != 1:
            problem = f"{found.count(column)} columns are called" if column in found else "no column"
            raise DataError(
                f"{path}: {problem} {column!r}; found {_named(found)}; name the right one in the study or mend the file"
            )


def _named(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)[:300] or "none"


def _read_hub(name: str, table: HubTable, root: Path | None, columns: Columns) -> Source:
    if not hub.reachable():
        if not hub.cached(table):
            raise DataError(hub.absent_line(f"tasks.{name}", table, root))
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when datasets is imported: the cache alone, no retries
    import datasets

    try:
        found = datasets.load_dataset(
            table.repo,
            data_dir=table.folder,
            revision=table.revision,
            download_config=datasets.DownloadConfig(max_retries=2),
        )
    except Exception as error:  # the package raises whatever its parts raise
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"tasks.{name}: {table.name} could not be read from the hub ({reason}); mend `source`"
        ) from error
    splits, files = {}, {}
    for split, names in SPLIT_NAMES.items():
        theirs = next((name for name in names if name in found), None)
        if theirs is None and split == "train":
            raise DataError(f"{table.name}: no split 'train'; found {_named(list(found))}")
        if theirs is None:
            continue
        if table.revision and hub.offline() and split == "train":
            _require_revision(name, table, found[theirs].cache_files)
        files[split] = f"{table.name}, split {theirs}"
        available = found[theirs].column_names
        wanted = columns(files[split], available) if callable(columns) else columns
        _require(files[split], wanted, available)
        arrow = found[theirs].select_columns(list(wanted)).with_format("arrow")[:]
        splits[split] = _rows([(files[split], _lists(arrow, wanted))])
    return Source(splits, files, {"source": f"hub:{table.name}", "revision": table.revision or "unpinned"})


def _require_revision(name: str, table: HubTable, cache_files: list[dict[str, str]]) -> None:
    """Offline, the datasets package takes the newest fetched table, whatever its revision."""
    if not any(table.revision in Path(file["filename"]).parts for file in cache_files):
        raise DataError(
            f"tasks.{name}: the cached copy of {table.name} is not revision {table.revision}; run once with network"
        )
