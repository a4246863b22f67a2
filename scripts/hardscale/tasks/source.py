"""Reading the tables that tasks are made from: local files, a data root in hub layout, or the hub itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from hardscale.artifacts.manifest import sha256_file
from hardscale.errors import DataError, HardscaleError
from hardscale.runtime.console import say
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks import hub
from hardscale.tasks.folders import SPLIT_NAMES, split_files
from hardscale.tasks.formats.files import read_table_file
from hardscale.tasks.formats.table import Table, require
from hardscale.tasks.locate import HubTable, LocalFiles, locate
from hardscale.untrusted.naming import named, numbers

#: Columns to read, or what chooses them of those there are: (file or table, names) -> names.
Columns = tuple[str, ...] | Callable[[str, list[str]], tuple[str, ...]]
#: Columns that a row of a JSON file may lack: Alpaca's second part of a request.
OPTIONAL = ("input",)


#: Readers of the datasets package that guess types, by which 007 becomes 7 and NA nothing, and pass over bad quotes.
_GUESSING = ("csv", "json")
#: Packages whose errors quote what they read.
_QUOTING = ("pyarrow", "pandas", "json", "csv")


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
        DataError: the table is not here and cannot be fetched, a file is unreadable, empty or lacks a column.
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
    found = loaded(name, table, root)
    origin = {"source": f"hub:{table.name}", "revision": table.revision or "unpinned"}
    files_here = text_files(name, table, found)
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


def loaded(name: str, table: HubTable, root: Path | None) -> Any:
    """The splits of a table as the datasets package gives them.

    Raises:
        DataError: the table cannot be had; the line quotes no row of it.
    """
    if not hub.reachable():
        if not hub.cached(table):
            raise DataError(hub.absent_line(f"tasks.{name}", table, root))
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when datasets is imported: the cache alone, no retries
    import datasets

    try:
        return datasets.load_dataset(
            table.repo,
            data_dir=table.folder,
            revision=table.revision,
            download_config=datasets.DownloadConfig(max_retries=2),
        )
    except Exception as error:  # the package raises whatever its parts raise
        raise _unreadable(name, table, error) from None


def text_files(name: str, table: HubTable, found: Any) -> LocalFiles | None:
    """The files of a table that is kept as csv or JSON, fetched as they are; None for other formats.

    Raises:
        DataError: they cannot be had, or it is not clear which are which split.
    """
    split = next(iter(found.values()))
    if getattr(split, "builder_name", None) not in _GUESSING:
        return None
    from huggingface_hub import snapshot_download

    urls = getattr(split.info, "download_checksums", None) or {}
    files = [url.split("@", 1)[1].split("/", 1)[1] for url in urls if url.startswith("hf://") and "@" in url]
    try:
        folder = Path(
            snapshot_download(
                table.repo,
                repo_type="dataset",
                revision=table.revision,
                allow_patterns=["README.md", *files] if files else None,
                local_files_only=not hub.reachable(),
            )
        )
        splits = split_files(folder / (table.folder or ""))
    except HardscaleError:
        raise
    except Exception as error:  # as above
        raise _unreadable(name, table, error) from None
    return LocalFiles(f"hub:{table.name}", splits["train"], splits.get("validation", ()))


def _unreadable(name: str, table: HubTable, error: Exception) -> DataError:
    return DataError(f"tasks.{name}: {table.name} could not be read from the hub ({_reason(error)}); fix `source`")


def _reason(error: BaseException) -> str:
    """What an error says, or only its kind where it comes from reading rows."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    if any(type(one).__module__.split(".")[0].lstrip("_") in _QUOTING for one in chain) or any(
        type(one).__name__.startswith("DatasetGeneration") for one in chain
    ):
        return "its rows: " + " from ".join(dict.fromkeys(type(one).__name__ for one in chain))
    return " ".join(str(error).split())[:300]
