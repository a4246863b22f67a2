"""A table as its file holds it: names of columns, rows, and what of the file is no row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardscale.errors import DataError
from hardscale.untrusted.naming import brief, named, numbers


@dataclass(frozen=True)
class Table:
    """What a file holds. No message of it quotes a cell: rows may be what nobody should read by chance.

    Attributes:
        path: the file, or a name for messages.
        names: columns, in the order in which they first appear in any row.
        n_rows: rows of data, counted where the file was parsed.
        column: gives the values of one column, ``ABSENT`` where a row has no such key.
        blank_lines: numbers of lines, from 1, that hold nothing and are no rows.
    """

    path: Path
    names: tuple[str, ...]
    n_rows: int
    column: Callable[[str], list[Any]]
    blank_lines: tuple[int, ...] = field(default=())

    def take(self, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[Any]]:
        """The wanted columns, each with one value a row.

        Args:
            columns: to read; each must be there once.
            optional: those of them that a row of a JSON file may lack; its value is None then.

        Raises:
            DataError: a column is missing or there twice, or a row lacks it; or values and rows differ in number.
        """
        if not self.names:
            raise DataError(f"{self.path}: no rows; give a table with at least one")
        require(self.path, columns, self.names)
        found: dict[str, list[Any]] = {}
        for name in columns:
            values = self.column(name)
            if len(values) != self.n_rows:
                raise DataError(
                    f"{self.path}: {self.n_rows} rows, but {len(values)} values in column {brief(name)}; write it again"
                )
            lacking = [number for number, value in enumerate(values, start=1) if value is ABSENT]
            if lacking and name not in optional:
                raise DataError(
                    f"{self.path}: row {numbers(lacking)} has no column {brief(name)}; found {named(self.names)} in "
                    "all; fix the row, or remove it"
                )
            found[name] = [None if value is ABSENT else value for value in values] if lacking else values
        return found


class _Absent:
    """The value of a key that a row does not have."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


def require(path: Path | str, columns: Sequence[str], found: Sequence[str]) -> None:
    """Refuse a table that lacks a wanted column, or has it twice.

    Raises:
        DataError: it does.
    """
    for column in columns:
        if found.count(column) != 1:
            problem = f"{found.count(column)} columns are called" if column in found else "no column"
            raise DataError(
                f"{path}: {problem} {brief(column)}; found {named(found)}; name the right one in the study "
                "or fix the file"
            )
