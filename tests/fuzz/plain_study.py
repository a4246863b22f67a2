"""A study read without the code under test: its file merged with what it extends, its cells, its blocks for a cell.

Written from README and docs/study.md. Nothing here refuses anything; what is missing or of another type reads as empty.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import documented
import yaml

from hardscale.models.ladder import BUILTIN_FAMILIES


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's reader without dates and without numbers to bases other than 10: those are texts."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _first, _resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items():
    _Loader.yaml_implicit_resolvers[_first] = [one for one in _resolvers if one[0][-3:] in ("ool", "ull", "rge")]
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"(?![-+]?0[0-9_]+$)"
        r"[-+]?(([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(e[-+]?[0-9]+)?|\.inf|\.nan)$",
        re.IGNORECASE,
    ),
    list("-+0123456789."),
)


def load(path: Path) -> dict[str, Any]:
    """The mapping of a file, what it extends merged in."""
    values = yaml.load(path.read_bytes(), _Loader)
    assert isinstance(values, dict)
    base = values.get("extends")
    return merged(load(path.parent / base), values) if isinstance(base, str) else values


def merged(base: Any, over: Any) -> Any:
    """Mappings merge key by key, everything else is replaced."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def twice(path: Path) -> list[str]:
    """Keys that stand twice in one mapping of a file."""
    found: list[str] = []
    pending = [yaml.compose(path.read_bytes(), _Loader)]
    seen: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            found += sorted({key for key in keys if keys.count(key) > 1})
            pending += [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value
    return found


@dataclass(frozen=True)
class Cell:
    """A task, a family, a scale, a seed."""

    task: str
    family: str
    scale: str
    seed: int

    def matches(self, where: Any) -> bool:
        """Whether a ``where`` means it."""
        pairs = (("task", self.task), ("family", self.family), ("scale", self.scale), ("seed", self.seed))
        return all(mapping(where).get(key) is None or value in listed(mapping(where)[key]) for key, value in pairs)


def mapping(value: Any) -> dict[Any, Any]:
    """The value if it is a mapping; else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """The value if it is a list; else an empty one."""
    return value if isinstance(value, list) else []


class PlainStudy:
    """A merged study and what follows from it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.tasks = mapping(values.get("tasks"))
        self.families = mapping(values.get("families"))
        self.defenses = mapping(values.get("defenses"))
        self.attacks = mapping(values.get("attacks"))
        self.grid = [mapping(row) for row in listed(values.get("grid"))]
        self.rows = [mapping(row) for row in listed(values.get("evaluate"))]
        self.cells = list(dict.fromkeys(cell for row in self.grid for cell in self._cells(row)))

    def scales(self, family: Any) -> list[str]:
        """Names of a family's scales."""
        said = mapping(self.families.get(family))
        if said.get("source", "builtin") == "builtin" and not said.get("scales"):
            return list(BUILTIN_FAMILIES.get(str(family), ()))
        return list(said.get("scales") or ())

    def scale(self, cell: Cell) -> dict[Any, Any]:
        """What is said of a cell's scale."""
        scales = mapping(self.families.get(cell.family)).get("scales")
        return mapping(mapping(scales).get(cell.scale))

    def _cells(self, row: dict[Any, Any]) -> Iterator[Cell]:
        for task in listed(row.get("tasks")):
            for family in listed(row.get("families")):
                for scale in row.get("scales") or self.scales(family):
                    for seed in listed(row.get("seeds")):
                        yield Cell(str(task), str(family), str(scale), seed)

    def is_chat(self, task: str) -> bool:
        """Whether a task is one of chat models."""
        return mapping(self.tasks.get(task)).get("kind") == "behaviors"

    def of_row(self, row: dict[Any, Any]) -> list[Cell]:
        """The cells that an evaluation means."""
        return [cell for cell in self.cells if cell.matches(row.get("where"))]

    def forms(self, block: Any, cells: list[Cell] | None = None) -> list[tuple[Cell, dict[Any, Any]]]:
        """A block as it holds for cells: each different form once, with a cell that has it."""
        found: list[tuple[Cell, dict[Any, Any]]] = []
        seen: set[tuple[bool, ...]] = set()
        overrides = [mapping(one) for one in listed(mapping(block).get("overrides"))]
        for cell in self.cells if cells is None else cells:
            which = tuple(cell.matches(one.get("where")) for one in overrides)
            if which not in seen:
                seen.add(which)
                form = {key: value for key, value in mapping(block).items() if key != "overrides"}
                for one, applies in zip(overrides, which, strict=True):
                    form = merged(form, mapping(one.get("set"))) if applies else form
                found.append((cell, form))
        return found


def value(form: dict[Any, Any], block: str, key: str) -> Any:
    """A key of a block, or its documented default."""
    return form.get(key, documented.default(block, key))


def number(form: dict[Any, Any], block: str, key: str) -> float | int | None:
    """A key that is a number, or its documented default; None where it is none."""
    return documented.as_number(value(form, block, key))
