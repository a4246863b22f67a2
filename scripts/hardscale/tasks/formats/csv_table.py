"""Strict CSV (RFC 4180): commas, double quotes, doubled within; whatever else a file holds is refused by row.

Lax readers go on somewhere when a quote does not fit, and rows vanish: an opening quote that never closes takes in all
that follows. Here quotes are counted apart from the parser, and so are rows.
"""

from __future__ import annotations

import csv
import io
import re
import threading
from pathlib import Path

from hardscale.errors import DataError
from hardscale.tasks.formats.table import Table

#: What may part columns in files that call themselves csv.
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_LINE_END = re.compile(r"\r\n|\r|\n")
_ENDS = {"\n": "a line feed", "\r\n": "carriage return and line feed", "\r": "a carriage return alone"}
_FIELD_LIMIT = threading.Lock()


def parse_csv(path: Path, text: str) -> Table:
    """The table of a csv file's text. Every value is text, so that 007 stays 007 and NA stays NA.

    Raises:
        DataError: the file is empty, a quote does not fit, a row has other than the header's number of fields, or
            lines end in different ways.
    """
    if not text.strip("\r\n"):
        raise DataError(f"{path}: the file is empty; give a table with a header and rows")
    outside = text.split('"')[::2]
    _check_quotes(path, text)
    _check_line_ends(path, outside)
    lines = _records(path, text)
    n_records = _count_records(text, outside)
    if len(lines) != n_records:
        raise DataError(f"{path}: {n_records} lines outside quotes, but {len(lines)} were parsed; write the file again")
    header, *rows = [(number, fields) for number, fields in lines if fields]
    names = header[1]
    _check_delimiter(path, names)
    for index, (number, fields) in enumerate(rows, start=1):
        if len(fields) != len(names):
            raise DataError(
                f"{path}: row {index} (line {number}) has {len(fields)} fields, the header {len(names)}; fix the row, "
                "or put values that hold a comma into quotes"
            )
    blank = [number for number, fields in lines if not fields]
    # Those behind the last row are how editors end a file.
    blank = [number for number in blank if number < lines[-1][0] and number < (rows or [header])[-1][0]]
    places = {name: i for i, name in reversed(list(enumerate(names)))}
    return Table(path, tuple(names), len(rows), lambda name: [fields[places[name]] for _, fields in rows], tuple(blank))


def _records(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Every record and the line that it begins on, blank lines as empty ones."""
    with _FIELD_LIMIT:  # the parser's limit is the process's
        before = csv.field_size_limit(len(text) + 1)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        found, line = [], 1
        try:
            for fields in reader:
                found.append((line, fields))
                line = reader.line_num + 1
            return found
        except csv.Error:
            raise DataError(f"{path}: line {line}: not readable as csv; write the file again") from None
        finally:
            csv.field_size_limit(before)


def _count_records(text: str, outside: list[str]) -> int:
    """Records by the line ends outside quotes, and the last one where no line end follows it."""
    n_ends = sum(len(_LINE_END.findall(part)) for part in outside)
    return n_ends + (not text.endswith(("\r", "\n")))


def _check_quotes(path: Path, text: str) -> None:
    """Refuse quotes that neither open a field, close it, nor are doubled within one.

    Parts of the text between quotes are in turn outside and inside of fields. One outside is empty (a doubled quote),
    or begins behind a field and ends before one.
    """
    parts = text.split('"')
    at = 0  # of the current part
    for i, part in enumerate(parts):
        if i % 2 == 0 and part:
            if i > 0 and part[0] not in ",\r\n":
                raise _misfit(path, text, at, "text follows a closing quote")
            if i + 1 < len(parts) and part[-1] not in ",\r\n":
                raise _misfit(path, text, at + len(part), "a quote stands within a field that no quote opens")
        at += len(part) + 1
    if len(parts) % 2 == 0:
        raise _misfit(path, text, _last_opening(parts), "an opening quote never closes")


def _last_opening(parts: list[str]) -> int:
    """Where the last quoted field opens: before it are only whole ones, doubled quotes within."""
    at, opening = 0, 0
    for i, part in enumerate(parts[:-1]):
        at += len(part) + 1
        if i % 2 == 0 and (part or i == 0):
            opening = at - 1
    return opening


def _misfit(path: Path, text: str, at: int, problem: str) -> DataError:
    """Names the row by the records before it, and the line by its line ends; what stands there is not shown."""
    before = text[:at]
    line = len(_LINE_END.findall(before)) + 1
    # Values in quotes stand for themselves as q: they may hold line ends, and are no blank lines.
    row = sum(bool(record) for record in _LINE_END.split("q".join(before.split('"')[::2]))[:-1])
    where = f"row {row}" if row else "the header"
    return DataError(
        f"{path}: {where} (line {line}): {problem}; a value with quotes is put into quotes, those within doubled"
    )


def _check_line_ends(path: Path, outside: list[str]) -> None:
    """Refuse lines that end in different ways: a carriage return then may end a line, or a value that has no quotes."""
    line, first = 1, None  # of lines outside quotes
    for part in outside:
        for end in _LINE_END.findall(part):
            first = first or end
            if end != first:
                raise DataError(
                    f"{path}: line {line} ends with {_ENDS[end]}, lines before it with {_ENDS[first]}, which may be "
                    "part of a value; end all lines alike, and put values with line ends into quotes"
                )
            line += 1


def _check_delimiter(path: Path, names: list[str]) -> None:
    """Refuse a header that is one column with another delimiter in it."""
    found = [word for mark, word in _OTHER_DELIMITERS.items() if len(names) == 1 and mark in names[0]]
    if found:
        raise DataError(f"{path}: columns are parted by {found[0]}, expected commas; write it again with commas")
