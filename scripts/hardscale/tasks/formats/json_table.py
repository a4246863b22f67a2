"""JSON tables: an object a line, an array of objects, or an object of lists; columns are those of all rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from hardscale.errors import DataError
from hardscale.tasks.formats.table import ABSENT, Table
from hardscale.untrusted.naming import numbers

#: Numbers from here on are not shown: their digits may fill a screen.
_LARGE = 1e15


class RefusedError(ValueError):
    """JSON that Python would read, and lose or make up a value."""


class Pairs(list[tuple[str, Any]]):
    """Keys and values of an object in their order, those of equal keys too; a plain list is an array."""


def parse_lines(path: Path, text: str) -> Table:
    """The table of a jsonl file's text.

    Raises:
        DataError: a line is not JSON or no object.
    """
    rows: list[dict[str, Any]] = []
    blank: list[int] = []
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            blank.append(number)
            continue
        where = f"{path}: row {len(rows) + 1}" + (f" (line {number})" if blank else "")
        rows.append(_object(where, parsed(f"{where} is not JSON", line)))
    return _table(path, rows, tuple(blank))


def parse_document(path: Path, text: str) -> Table:
    """The table of a json file's text: an array of objects, an object of lists of one length, or an object a line.

    Raises:
        DataError: it is none of them.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return parse_lines(path, text)
        raise _not_json(f"{path}: not readable as JSON", error) from None
    except (ValueError, RecursionError) as error:
        raise _not_json(f"{path}: not readable as JSON", error) from None
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        return _columns(path, value)
    if isinstance(value, list):
        return _table(path, [_object(f"{path}: row {i}", row) for i, row in enumerate(value, start=1)])
    raise DataError(
        f"{path}: found {kind_of(value)}, expected an array of objects, an object of lists, or an object a line"
    )


def parsed(where: str, text: str, pairs: bool = False) -> Any:
    """A JSON value; an object with a key twice, NaN and the infinities are refused.

    Args:
        where: how the message begins; it never quotes the text.
        text: of the value.
        pairs: give objects as Pairs, with keys that are there twice.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=Pairs if pairs else _unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _not_json(where, error) from None


def kind_of(value: Any) -> str:
    """The type of a value for messages, with the value itself only where it is a number."""
    name = "object" if isinstance(value, Pairs | dict) else type(value).__name__
    return f"{name} {value}" if isinstance(value, int | float) and abs(value) < _LARGE else name


def _not_json(begin: str, error: Exception) -> DataError:
    if isinstance(error, json.JSONDecodeError):
        reason = f"{error.msg.split(': ')[0]}, line {error.lineno} column {error.colno} of it"
    elif isinstance(error, RecursionError):
        reason = "nested too deep"
    else:
        reason = str(error) if isinstance(error, RefusedError) else "a number with too many digits"
    return DataError(f"{begin} ({reason}); fix it, or fetch the file again")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError("an object has a key twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise RefusedError(f"{name} is no JSON number")


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} is {kind_of(value)}, expected an object with the columns")
    return value


def _table(path: Path, rows: list[dict[str, Any]], blank: tuple[int, ...] = ()) -> Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(path, tuple(names), len(rows), lambda name: [row.get(name, ABSENT) for row in rows], blank)


def _columns(path: Path, value: dict[str, list[Any]]) -> Table:
    lengths = sorted({len(column) for column in value.values()})
    if len(lengths) != 1:
        raise DataError(f"{path}: lists of {numbers(lengths)} values, expected one length for all; write it again")
    return Table(path, tuple(value), lengths[0], lambda name: value[name])
