"""What is wrong with the values of a block, in the words of a study: key, what was found, what was expected.

The library that checks types has words of its own (``Input should be a valid integer``), names of its types in the
place of an error, and several errors where a value may be of several kinds. None of that is in a study file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hardscale.errors import StudyError
from hardscale.settings.bounds import EXPECTED
from hardscale.settings.former_names import of_spec

_Block = TypeVar("_Block", bound=BaseModel)

_LONGEST_SHOWN = 60
_OF_A_KEY = re.compile(r"([A-Za-z_]\w*)[\w.-]*: ")


def problems(error: ValidationError, values: Any) -> list[str]:
    """One line for each thing that is wrong.

    Args:
        error: what the check of ``values`` raised.
        values: what was checked, as it was read.
    """
    by_key: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for one in error.errors(include_url=False):
        by_key.setdefault(_place(one, values), []).append(one)
    # Where a value may be of several kinds, what is wrong within one of them tells more than that it is no other one.
    above = {key[:i] for key in by_key for i in range(len(key))}
    return [_line(key, wrong) for key, wrong in by_key.items() if key not in above]


def first_problem(error: ValidationError, values: Any) -> str:
    """The first of :func:`problems`."""
    return problems(error, values)[0]


def from_spec(block: type[_Block], values: Any) -> _Block:
    """The settings of a job, from its spec.

    Raises:
        StudyError: one of them is not allowed.
    """
    try:
        return block.model_validate(of_spec(values, block.model_fields))
    except ValidationError as error:
        raise StudyError(f"--spec: settings.{first_problem(error, values)}; see docs/study.md") from error


def found(value: Any) -> str:
    """A value as a message shows it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, int) and abs(value) >= 10**_LONGEST_SHOWN:
        return "a number of too many digits"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def quoted(names: Iterable[Any]) -> str:
    """Values one after another, as a study writes them."""
    return ", ".join(map(str, names)) or "none"


def _place(error: ErrorDetails, values: Any) -> tuple[str | int, ...]:
    """The keys of the file on the way to an error, without the names of types in between."""
    place: list[str | int] = []
    steps = error["loc"]
    for i, step in enumerate(steps):
        try:
            values = values[step]
        except (TypeError, LookupError):
            if error["type"] != "missing" or i < len(steps) - 1:
                continue
        place.append(step)
    return tuple(place)


def _line(key: tuple[str | int, ...], errors: list[ErrorDetails]) -> str:
    place = ".".join(map(str, key))
    for one in errors:
        message = str(one["ctx"]["error"]) if one["type"] == "value_error" else one["msg"]
        if one["type"] == "value_error":
            return _joined(place, message, one["input"])
        if one["type"].endswith("_kind"):
            kind = one["input"].get("kind") if isinstance(one["input"], Mapping) else one["input"]
            return f"{place}.{message}, found {found(kind)}".lstrip(".")
        if one["type"] == "missing":
            return f"{place}: this key is required"
    known = [words for words in map(_expected, errors) if words]
    if not known:
        return f"{place}: unknown key; see docs/study.md or workflow/schemas/study.schema.json for what is allowed"
    value = errors[0]["input"]
    hint = "; put it in quotes" if _wants_quotes(value, known) else ""
    return f"{place}: found {found(value)}, expected {', or '.join(dict.fromkeys(known))}{hint}"


def _joined(place: str, message: str, value: Any) -> str:
    """A message of a block itself, its key in front: of one of the block's own keys where the message begins so."""
    if not place:
        return message
    start = _OF_A_KEY.match(message)
    own = start is not None and isinstance(value, Mapping) and start[1] in value
    return f"{place}{'.' if own else ': '}{message}"


def _expected(error: ErrorDetails) -> str | None:
    """What one kind of value would have been; None where the key itself is unknown."""
    kind, given = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return None
    if kind == EXPECTED:
        return str(error["msg"])
    if kind in ("too_short", "too_long"):
        bound = given["min_length"] if kind == "too_short" else given["max_length"]
        return f"{'at least' if kind == 'too_short' else 'at most'} {bound:,} of what it lists"
    if kind in ("list_type", "tuple_type"):
        return "a list"
    if kind in ("dict_type", "model_type", "model_attributes_type", "mapping_type"):
        return "a mapping of keys"
    if kind == "literal_error":
        return str(given["expected"])
    if kind == "string_type":
        return "text"
    return "another value, see docs/study.md"


def _wants_quotes(value: Any, known: list[str]) -> bool:
    """Whether YAML read something else than a text where one is wanted, as it does with yes, no and 007."""
    return isinstance(value, bool | int | float) and any("text" in words or "name" in words for words in known)
