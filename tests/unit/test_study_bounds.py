"""Every number of a study lies between two bounds; every text, list and mapping holds no more than it may."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from hardscale.settings import bounds
from hardscale.settings.schema import study_schema
from hardscale.settings.words import first_problem

SCHEMA = study_schema()
BLOCKS = {"Study": SCHEMA, **SCHEMA["$defs"]}
#: Lists and mappings that may be empty: leaving them out says the same.
MAY_BE_EMPTY = {"overrides", "set", "defenses", "headline_iteration"}
#: More than any cluster could mean, whatever is counted.
TOO_MANY = 10**16


def leaves(node: Any, key: str) -> Any:
    """Every type that a key may have, with the key."""
    if "$ref" in node or "enum" in node or "const" in node:
        return
    for several in ("anyOf", "oneOf", "prefixItems"):
        for one in node.get(several, ()):
            yield from leaves(one, key)
    if isinstance(node.get("items"), dict):
        yield from leaves(node["items"], f"{key}[]")
    for inner in (node.get("additionalProperties"), *node.get("patternProperties", {}).values()):
        if isinstance(inner, dict):
            yield from leaves(inner, f"{key}{{}}")
    if "type" in node:
        yield key, node


PROPERTIES = [
    (f"{name}.{key}", node)
    for name, block in BLOCKS.items()
    for place, said in block.get("properties", {}).items()
    for key, node in leaves(said, place)
]


def test_the_schema_was_walked_to_its_ends():
    kinds = {node["type"] for _, node in PROPERTIES}
    assert kinds == {"integer", "number", "string", "boolean", "array", "object", "null"}
    keys = {key for key, _ in PROPERTIES}
    assert {"GridRow.seeds[]", "Where.scale[]", "OptimizerSettings.betas", "Study.ranks{}"} <= keys
    assert len(keys) > 250


@pytest.mark.parametrize(("key", "node"), PROPERTIES, ids=[key for key, _ in PROPERTIES])
def test_every_value_is_bounded(key, node):
    kind = node["type"]
    if kind in ("integer", "number"):
        low, high = (
            node.get(a, node.get(b)) for a, b in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
        )
        assert -TOO_MANY < low < high + 1 < TOO_MANY
    elif kind == "string":
        assert node["maxLength"] <= 100_000
    elif kind == "array":
        assert node["maxItems"] <= 100_000
        assert node.get("minItems", 0) >= 1 or key.rpartition(".")[2] in MAY_BE_EMPTY
    elif kind == "object":
        assert node["maxProperties"] <= 1_000
        assert node.get("minProperties", 0) >= 1 or key.rpartition(".")[2] in MAY_BE_EMPTY


def kinds_of(name: str) -> Any:
    return getattr(bounds, name)


class _Probe(BaseModel):
    model_config = ConfigDict(extra="forbid")


def said(kind: Any, value: Any) -> str | None:
    """What is wrong with a value of a kind; None if nothing."""
    probe = type("Probe", (_Probe,), {"__annotations__": {"key": kind}})
    try:
        probe.model_validate({"key": value})
    except ValidationError as error:
        return first_problem(error, {"key": value})
    return None


WHOLE, REAL = Annotated[int, bounds.Whole(1, 9)], Annotated[float, bounds.Real(0, 1, below=True)]
NO_NUMBERS = (True, False, "3", "three", None, [], [3], {}, float("nan"), float("inf"), -float("inf"), b"3")


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, 10, 2.5, 10**400, -1])
def test_a_whole_number_is_nothing_else(value):
    assert said(WHOLE, value).endswith("expected a whole number of at least 1 and at most 9")


@pytest.mark.parametrize("value", [*NO_NUMBERS, 1, 1.0, -1e-9, 10**400])
def test_a_number_is_nothing_else(value):
    assert said(REAL, value).endswith("expected a number of at least 0 and below 1")


def test_numbers_within_their_bounds_are_taken_bounds_included():
    assert [said(WHOLE, value) for value in (1, 9, 3.0, 1e0)] == [None] * 4
    assert [said(REAL, value) for value in (0, 0.0, 0.999, 1e-300)] == [None] * 4


@pytest.mark.parametrize("value", [0, 1, "true", "yes", "false", 1.0, None, []])
def test_a_truth_is_nothing_else(value):
    assert said(bounds.Flag, value).endswith("expected true or false")
    assert said(bounds.Flag, True) is None and said(bounds.Flag, False) is None


CONTROLS = ["\0", "\a", "\x1b[31m", "\x7f", "\x9b", "\ud800"]
LINE_ENDS = ["\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("character", CONTROLS, ids=ascii)
def test_no_text_holds_what_a_terminal_obeys(character):
    for kind in (bounds.Line, bounds.Text, bounds.FilledText, bounds.Name, bounds.TaskName):
        message = said(kind, f"a{character}b")
        assert message and message.isprintable()


@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_a_line_is_one_and_a_name_ends_where_it_ends(end):
    assert said(bounds.Text, f"a{end}b") is None
    for kind in (bounds.Line, bounds.Name, bounds.TaskName):
        assert said(kind, f"a{end}b") and said(kind, f"ab{end}") and said(kind, f"{end}ab")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("Line", ["a", " a b ", "/x/{y} ☃", "a" * 4_096], ["", " ", "\u00a0", "a" * 4_097, 5, True, None, ["a"]]),
        ("Text", ["", " ", "a\n\tb", "a" * 100_000], ["a" * 100_001, 5, True, {}]),
        ("FilledText", ["!", "@&", "a\nb"], ["", " ", "\n\t"]),
        (
            "Name",
            ["a", "14m", "qwen2.5", "a-b_c"],
            ["", "A", "a/b", "..", ".a", "a.", "a b", "a" * 61, "é", "a=b", 5],
        ),
        ("TaskName", ["a", "a_b1"], ["", "1a", "a-b", "a.b", "A", "_a", "a" * 61]),
    ],
)
def test_texts_and_names(kind, good, bad):
    assert {value: said(kinds_of(kind), value) for value in good} == dict.fromkeys(good)
    for value in bad:
        message = said(kinds_of(kind), value)
        assert message is not None and message.startswith("key: found ") and len(message) < 300, value


def test_a_number_where_a_text_is_wanted_is_told_to_be_quoted():
    assert said(bounds.Line, 7).endswith("; put it in quotes")
    assert said(bounds.Line, True).startswith("key: found true, expected one line of text")
    assert not said(bounds.Line, " ").endswith("quotes")
