"""What docs/study.md says of a study's keys: blocks, their keys, types and defaults; and what breaks that."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "study.md"
_ATOM = re.compile(r"(list of |mapping to )?(?:\[(\w+)\]\(#\w+\)|`\"([^`]*)\"`|(\w+))")
#: Alternatives of a type in a table cell.
_OR = " \\| "


@dataclass(frozen=True)
class Type:
    """One alternative of a key's type.

    Attributes:
        name: ``integer``, ``string`` ..., a block's, or ``literal``.
        of: what a list or mapping holds; empty if that is not said.
        literal: the one value of a literal.
    """

    name: str
    of: tuple[Type, ...] = ()
    literal: str = ""


@dataclass(frozen=True)
class Key:
    """A row of a block's table."""

    types: tuple[Type, ...]
    default: str

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default == "required"


@functools.cache
def blocks() -> dict[str, dict[str, Key]]:
    """Every block of the page: key -> what is said of it."""
    found: dict[str, dict[str, Key]] = {}
    block: dict[str, Key] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            block = found.setdefault(line[3:].strip(), {})
        elif line.startswith("| `"):
            name, types, default, *_ = re.split(r"(?<!\\) \|", line.removeprefix("|"))
            block[name.strip(" `")] = Key(parse_types(types.strip()), default.strip(" `"))
    assert len(found) > 30, "docs/study.md is no longer read right"
    return found


def parse_types(text: str) -> tuple[Type, ...]:
    """The alternatives of a type; blocks behind ``list of`` or ``mapping to`` are what it holds."""
    found: list[Type] = []
    for part in text.split(_OR):
        match = _ATOM.match(part)
        assert match, part
        holder, block, literal, word = match.groups()
        one = Type("literal", literal=literal) if literal is not None else Type(block or word)
        if holder and found and found[-1].name == holder.split()[0]:
            found[-1] = Type(found[-1].name, (*found[-1].of, one))
        elif holder:
            found.append(Type(holder.split()[0], (one,)))
        elif block and found and found[-1].of and found[-1].of[0].name in blocks_named():
            found[-1] = Type(found[-1].name, (*found[-1].of, one))
        else:
            found.append(one)
    return tuple(found)


@functools.cache
def blocks_named() -> frozenset[str]:
    """Names of all blocks."""
    return frozenset(re.findall(r"^## (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def default(block: str, key: str) -> Any:
    """A key's default as a value; None where it is a block's own or not written down."""
    try:
        return json.loads(blocks()[block][key].default)
    except json.JSONDecodeError:
        return None


def placed(value: Any, types: tuple[Type, ...], path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Path and name of every block in a value of one of some types, outer ones first."""
    one = _meant(value, types)
    if one is None:
        return
    if one.name in blocks():
        yield path, one.name
        for key, said in blocks()[one.name].items():
            if key in value:
                yield from placed(value[key], said.types, (*path, key))
    elif isinstance(value, list | dict):
        for key, inner in enumerate(value) if isinstance(value, list) else value.items():
            yield from placed(inner, one.of, (*path, key))


def _meant(value: Any, types: tuple[Type, ...]) -> Type | None:
    """Which alternative a list or mapping is meant for: of blocks the one of its kind, else the one with most keys."""
    fitting = [one for one in types if isinstance(value, list) and one.name == "list"]
    if isinstance(value, dict):
        named = [one for one in types if one.name in blocks()]
        kinds = [one for one in named if value.get("kind") in kinds_of(one.name)]
        fitting = kinds or sorted(named, key=lambda one: len(value.keys() - blocks()[one.name].keys()))
        fitting += [one for one in types if one.name == "mapping"]
    return fitting[0] if fitting else None


def kinds_of(block: str) -> list[str]:
    """The kinds that a block may be of."""
    kind = blocks()[block].get("kind")
    return [one.literal for one in kind.types if one.name == "literal"] if kind else []


def wrong(value: Any, types: tuple[Type, ...], path: str = "") -> Iterator[str]:
    """What in a value breaks the page: unknown keys, keys left out, other types, numbers that are none."""
    one = _meant(value, types)
    if one is not None and one.name in blocks():
        said = blocks()[one.name]
        yield from (f"{path}.{key}: no such key of {one.name}" for key in value if key not in said)
        yield from (f"{path}.{key}: left out" for key, row in said.items() if row.required and key not in value)
        for key, row in said.items():
            if key in value:
                yield from wrong(value[key], row.types, f"{path}.{key}".lstrip("."))
    elif one is not None and one.of:
        for key, inner in enumerate(value) if isinstance(value, list) else value.items():
            if isinstance(value, dict) and not isinstance(key, str):
                yield f"{path}: a key that is no text"
            yield from wrong(inner, one.of, f"{path}.{key}")
    elif one is None and not any(_is(value, each) for each in types):
        yield f"{path}: {type(value).__name__} where {', '.join(each.literal or each.name for each in types)} belongs"


def _is(value: Any, one: Type) -> bool:
    """Whether a scalar is of a type. A text that spells a number or a truth value may stand for it."""
    if one.name == "null":
        return value is None
    if one.name == "boolean":
        return isinstance(value, bool | str) or value in (0, 1)
    if one.name == "string":
        return isinstance(value, str)
    if one.name == "literal":
        return bool(value == one.literal)
    if one.name in ("integer", "number"):
        number = as_number(value)
        return number is not None and (one.name == "number" or float(number).is_integer())
    return False


def as_number(value: Any) -> float | int | None:
    """The finite number that a scalar is or spells."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, int):
        return value if abs(value) < 10**300 else None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


STUDY = (Type("Study"),)
