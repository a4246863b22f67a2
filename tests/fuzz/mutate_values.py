"""Changes to the values of a study: keys left out, added, misspelled; values of other types, sizes, names and kinds."""

from __future__ import annotations

import copy
import datetime
import random
from collections.abc import Callable
from typing import Any

import documented
from plain_study import merged

#: Numbers at and beyond every bound.
NUMBERS: tuple[Any, ...] = (
    *(
        0,
        -1,
        1,
        2,
        3,
        7,
        64,
        300,
        1000,
        5000,
        10**6,
        10**7,
        10**9,
        10**12,
        2**31,
        2**63,
        2**64,
        10**18,
        10**30,
        10**400,
    ),
    *(
        0.0,
        -0.0,
        0.5,
        0.999,
        1.0,
        1.5,
        2.5,
        -0.1,
        1e-300,
        5e-324,
        1e308,
        1e-5,
        float("inf"),
        float("-inf"),
        float("nan"),
    ),
)
TEXTS: tuple[Any, ...] = (
    *("", " ", "\n", "\t", "0", "1", "-1", "1e3", "1_000", "0x10", "nan", "inf", "true", "no", "null", "~", "none"),
    *("default", "..", "../evil", "/etc/passwd", "~nosuchuser/x", "~", "/dev/zero", "hub:", "hub:a", "hub:a/b@", "a/b"),
    *("{x}", "{wildcards.x}", "%s", "$HOME", "a\0b", "a\x1b[31mb", "a\nb", "a\rb", "a\u2028b", "a\x85b", "\u202eb"),
    *("ünïcode", "名前", "a" * 61, "a" * 300, "a" * 100_000, "gcg.1of2", "x.2of10", "adversarial-rounds", "A", "a b"),
    *(
        "<script>alert(1)</script>",
        ".. include:: /etc/passwd",
        "\ufeff",
        "\ud7ff",
        "1of2",
        ".1of2",
        "a.",
        "-a",
        "--help",
    ),
)
OTHERS: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], [None], {"a": 1}, {"a": {"b": {"c": []}}}, [1, 2], ["a", "a"], [0, 0], [True]),
    *(datetime.date(2001, 1, 1), datetime.datetime(2001, 1, 1, 1, 1), b"bytes", {1: 2}, {None: 1}, {True: 1}, {"": 1}),
    *(
        {"x", "y"},
        [{"where": {}}],
        {"kind": "gcg"},
        {"kind": []},
        {"kind": {}},
        {"kind": None},
        {"where": {}, "set": {}},
    ),
)
KEYS = (
    "kind",
    "steps",
    "Steps",
    "n_steps",
    "lr",
    "seed",
    "overrides",
    "where",
    "set",
    "name",
    "__class__",
    "model_config",
)

Place = tuple[Any, ...]


def mutated(rng: random.Random, values: dict[str, Any], others: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """A study with a few things changed, and their names.

    Args:
        rng: what decides.
        values: a valid study; it stays as it is.
        others: valid studies to take blocks from.
    """
    values = unshared(values)
    names = []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3))):
        name = rng.choice(_WEIGHED)
        change = CHANGES[name]
        try:
            what = change(rng, values, others)
        except (AttributeError, LookupError, TypeError, ValueError):  # nothing of the kind is there
            continue
        names.append(f"{name} {what}")
    return values, "; ".join(names) or "nothing"


def unshared(value: Any) -> Any:
    """A copy of which no part stands in two places, as parts of YAML's aliases do."""
    if isinstance(value, dict):
        return {key: unshared(one) for key, one in value.items()}
    return [unshared(one) for one in value] if isinstance(value, list) else copy.deepcopy(value)


def at(values: Any, place: Place) -> Any:
    """The value at a place."""
    for key in place:
        values = values[key]
    return values


def places(values: Any, place: Place = ()) -> list[Place]:
    """Everywhere in a value, itself excepted."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    found = [(*place, key) for key, _ in inner]
    return found + [deep for one in list(found) for deep in places(at(values, one[-1:]), one)]


def put(values: Any, place: Place, value: Any) -> None:
    """Set the value at a place."""
    at(values, place[:-1])[place[-1]] = value


def _spot(rng: random.Random, values: Any, kind: type | tuple[type, ...] = object) -> Place:
    return rng.choice([one for one in places(values) if isinstance(at(values, one), kind)])


def _told(place: Place, value: Any = "") -> str:
    return f"{'.'.join(map(str, place))}={value!r}"[:120]


def any_value(rng: random.Random) -> Any:
    """Some value of some type."""
    return copy.deepcopy(rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS))))


def _removed(rng: random.Random, values: Any, others: Any) -> str:
    place = _spot(rng, values)
    del at(values, place[:-1])[place[-1]]
    return _told(place, "...")


def _unknown_key(rng: random.Random, values: Any, others: Any) -> str:
    place = rng.choice([(), _spot(rng, values, dict)])
    key = rng.choice([*KEYS, *map(str, TEXTS)])
    at(values, place)[key] = any_value(rng)
    return _told((*place, key))


def _misspelled(rng: random.Random, values: Any, others: Any) -> str:
    place = rng.choice([one for one in places(values) if isinstance(one[-1], str) and one[-1]])
    holder, key = at(values, place[:-1]), place[-1]
    i = rng.randrange(len(key))
    other = rng.choice((key[:i] + key[i + 1 :], key[:i] + "x" + key[i:], key.upper(), key.replace("_", "-"), key + " "))
    if isinstance(holder, dict):
        holder[other] = holder.pop(key)
    return _told(place, other)


def _retyped(rng: random.Random, values: Any, others: Any) -> str:
    place, value = _spot(rng, values), any_value(rng)
    put(values, place, value)
    return _told(place, value)


def _other_number(rng: random.Random, values: Any, others: Any) -> str:
    place = _spot(rng, values, (int, float))
    old = at(values, place)
    value = rng.choice([*NUMBERS, -old, old + 1, old - 1, old * 1000, old / 3, bool(old), str(old), f"{old}x", [old]])
    put(values, place, value)
    return _told(place, value)


def _other_text(rng: random.Random, values: Any, others: Any) -> str:
    place = _spot(rng, values, str)
    old = at(values, place)
    value = rng.choice([*TEXTS, old + "x", old.upper(), old[:-1], old + "\n", old + " ", f"{old}.1of2"])
    put(values, place, value)
    return _told(place, value)


def _other_list(rng: random.Random, values: Any, others: Any) -> str:
    place = _spot(rng, values, list)
    found = at(values, place)
    value = rng.choice(([], found * 2, found[:-1], [*found, any_value(rng)], found[::-1], [found], found * 1000))
    put(values, place, copy.deepcopy(value))
    return _told(place, value)


def _swapped(rng: random.Random, values: Any, others: Any) -> str:
    one, other = _spot(rng, values), _spot(rng, values)
    if one[: len(other)] == other or other[: len(one)] == one:
        return "nothing"
    first, second = at(values, one), at(values, other)
    put(values, one, second)
    put(values, other, first)
    return f"{_told(one)} and {_told(other)}"


def _documented_key(rng: random.Random, values: Any, others: Any) -> str:
    """A key that the reference knows of that block, with some value."""
    place, block = rng.choice(list(documented.placed(values, documented.STUDY)))
    key = rng.choice(list(documented.blocks()[block]))
    value = _some(rng, documented.blocks()[block][key].types)
    at(values, place)[key] = value
    return _told((*place, key), value)


def _some(rng: random.Random, types: tuple[documented.Type, ...]) -> Any:
    """A value that is mostly of one of some types."""
    one = rng.choice(types)
    if rng.random() < 0.1:
        return any_value(rng)
    if one.name in ("integer", "number"):
        return rng.choice(NUMBERS)
    if one.name == "literal":
        return one.literal
    if one.name == "boolean":
        return rng.random() < 0.5
    if one.name == "list":
        return [_some(rng, one.of) if one.of else any_value(rng) for _ in range(rng.choice((0, 1, 2)))]
    if one.name == "mapping":
        return {
            rng.choice(TEXTS): _some(rng, one.of) if one.of else any_value(rng) for _ in range(rng.choice((0, 1, 2)))
        }
    if one.name in documented.blocks():
        rows = documented.blocks()[one.name]
        return {key: _some(rng, row.types) for key, row in rows.items() if row.required or rng.random() < 0.2}
    return None if one.name == "null" else rng.choice(TEXTS)


def _other_kind(rng: random.Random, values: Any, others: Any) -> str:
    place = rng.choice([one for one in places(values) if one[-1] == "kind"])
    kinds = [kind for block in documented.blocks() for kind in documented.kinds_of(block)]
    put(values, place, value := rng.choice(kinds))
    return _told(place, value)


def _foreign_block(rng: random.Random, values: Any, others: Any) -> str:
    """A block of another study in the place of one here."""
    other = rng.choice(others)
    place = rng.choice([one for one in documented.placed(other, documented.STUDY) if one[0]])[0]
    here = rng.choice([place, _spot(rng, values, dict)])
    put(values, here, copy.deepcopy(at(other, place)))
    return _told(here, place)


def _override(rng: random.Random, values: Any, others: Any) -> str:
    """An override, of a block that may have some: for known or unknown cells, of known or unknown keys."""
    able = [one for one in documented.placed(values, documented.STUDY) if "overrides" in documented.blocks()[one[1]]]
    place, block = rng.choice(able)
    rows = documented.blocks()[block]
    key = rng.choice([*rows, *KEYS])
    value = _some(rng, rows[key].types) if key in rows else any_value(rng)
    names = [*values.get("tasks", {}), *values.get("families", {}), "nosuch", "30k", 0, 1]
    coordinates = rng.sample(("task", "family", "scale", "seed"), rng.choice((0, 1, 1, 2)))
    where = {one: [rng.choice(names)] for one in coordinates}
    inner = {key: value}
    if isinstance(at(values, place).get(key), dict) and rng.random() < 0.7:
        deeper = rng.choice(list(at(values, place)[key]))
        inner = {key: {deeper: any_value(rng)}}
    told = {"where": where, "set": inner}
    at(values, place)["overrides"] = [*(at(values, place).get("overrides") or []), told]
    return _told((*place, "overrides"), told)


def _two_overrides(rng: random.Random, values: Any, others: Any) -> str:
    return f"{_override(rng, values, others)} {_override(rng, values, others)}"


def _where(rng: random.Random, values: Any, others: Any) -> str:
    place = rng.choice([("evaluate", i) for i in range(len(values["evaluate"]))])
    key = rng.choice(("task", "family", "scale", "seed", "round", "attack"))
    value = rng.choice(([], ["nosuch"], [0], [99], ["30k"], "30k", None, [*values["tasks"]], [*values["families"]]))
    at(values, place)["where"] = merged(at(values, place).get("where"), {key: value})
    return _told((*place, "where", key), value)


Change = Callable[[random.Random, Any, Any], str]
CHANGES: dict[str, Change] = {
    "removed": _removed,
    "unknown key": _unknown_key,
    "misspelled": _misspelled,
    "retyped": _retyped,
    "other number": _other_number,
    "other text": _other_text,
    "other list": _other_list,
    "swapped": _swapped,
    "documented key": _documented_key,
    "other kind": _other_kind,
    "foreign block": _foreign_block,
    "override": _override,
    "two overrides": _two_overrides,
    "where": _where,
}
_WEIGHED = [*CHANGES, "documented key", "documented key", "documented key", "other number", "override", "retyped"]
