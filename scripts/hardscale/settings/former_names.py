"""Keys of a study that were renamed in this version. The former name is read until the next version.

Specs keep it as long, so that renaming a key makes no published model again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hardscale.errors import StudyError

#: Section of a study -> former key of its blocks -> the key today.
FORMER: dict[str, dict[str, str]] = {"defenses": {"normalise": "normalize"}}
#: A line for each former key that this process has read.
notes: dict[str, None] = {}


def in_todays_names(values: dict[str, Any], origin: str) -> dict[str, Any]:
    """A study as its file has it, former keys of its blocks and their overrides under today's names.

    Raises:
        StudyError: a block has a key under both names.
    """
    found = dict(values)
    for section in FORMER.keys() & values.keys():
        if isinstance(values[section], dict):
            blocks = values[section].items()
            found[section] = {name: _block(block, section, f"{origin}: {section}.{name}") for name, block in blocks}
    return found


def of_spec(settings: Any, fields: Collection[str]) -> Any:
    """The settings of a block with these fields from a job's spec, under today's names."""
    names = {former: today for section in FORMER.values() for former, today in section.items() if today in fields}
    return _renamed(settings, names) if isinstance(settings, dict) else settings


def for_spec(settings: dict[str, Any], section: str) -> dict[str, Any]:
    """The settings of a block as specs name them."""
    return _renamed(settings, {today: former for former, today in FORMER[section].items()})


def _block(block: Any, section: str, place: str) -> Any:
    if not isinstance(block, dict):
        return block
    found = _keys(block, section, place)
    if isinstance(block.get("overrides"), list):
        found["overrides"] = [
            {**one, "set": _keys(one["set"], section, f"{place}.overrides.{i}.set")}
            if isinstance(one, dict) and isinstance(one.get("set"), dict)
            else one
            for i, one in enumerate(block["overrides"])
        ]
    return found


def _keys(values: dict[str, Any], section: str, place: str) -> dict[str, Any]:
    for former in FORMER[section].keys() & values.keys():
        today = FORMER[section][former]
        if today in values:
            raise StudyError(f"{place}.{former}: the former name of {today}, which is given too; leave {former} out")
        notes[f"note: {place}.{former} is now {today}; rename it"] = None
    return _renamed(values, FORMER[section])


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The same values in the same order, keys renamed."""
    return {names.get(key, key): value for key, value in values.items()}
