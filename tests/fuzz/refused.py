"""Studies written by hand that must be refused, each with the key that the error has to name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutate_values
import studies
import yaml

#: The studies that they are made of.
FILE = {"nano": "config.yaml", "chat": "studies/chat.yaml", "tickets": "studies/tickets.yaml"}


@dataclass(frozen=True)
class Refused:
    """A study that nobody may run.

    Attributes:
        line: as it is written down.
        base: the study that it is made of.
        changes: key, its steps separated by dots, and the value it gets; ``gone`` takes it away.
        named: the key that the error names.
    """

    line: str
    base: str
    changes: tuple[tuple[str, Any], ...]
    named: str


def all_of_them() -> list[Refused]:
    """Those of the list."""
    lines = (Path(__file__).parent / "refused.txt").read_text(encoding="utf-8").splitlines()
    return [_parsed(line) for line in lines if line and not line.startswith("#")]


def _parsed(line: str) -> Refused:
    base, _, rest = line.partition(": ")
    changes, _, named = rest.rpartition(" -> ")
    pairs = [change.split(" := ", 1) for change in changes.split(" & ")]
    return Refused(line, base, tuple((key, yaml.safe_load(value)) for key, value in pairs), named)


def made(one: Refused) -> studies.Case:
    """The study itself."""
    values = studies.values(FILE[one.base], whole=False)
    for key, value in one.changes:
        put(values, key, value)
    return studies.Case(FILE[one.base], studies.written(values), one.line)


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Change a study: mappings on the way are made where they are missing."""
    head, *rest = [int(part) if part.isdecimal() else part for part in key.split(".")]
    if rest[-1:] == ["1of2"]:
        rest = [".".join(map(str, rest))]  # the one name with a dot
    place = (head, *rest)
    for i in range(1, len(place)):
        holder, step = mutate_values.at(values, place[: i - 1]), place[i - 1]
        if isinstance(holder, dict):
            holder.setdefault(step, {})
    holder = mutate_values.at(values, place[:-1])
    if value == "gone":
        holder.pop(place[-1])
    else:
        holder[place[-1]] = value


def check(one: Refused) -> str | None:
    """What is wrong with how it is refused; None if nothing is."""
    case = made(one)
    said, wrong = studies.outcome(case)
    if wrong:
        return f"{one.line}: {wrong}"
    if said is None:
        return f"{one.line}: accepted"
    return None if one.named in said else f"{one.line}: the error does not name {one.named}: {said[:300]!r}"
