"""What is said of a wrong value: the file's own keys, what was found, what was expected; no library's words."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from hardscale.errors import StudyError
from hardscale.settings.study import MAX_PROBLEMS, Study, parse_study, read_yaml
from hardscale.settings.words import found

ROOT = Path(__file__).parents[2]
BASES = {name: read_yaml(ROOT / name) for name in ("config.yaml", "studies/chat.yaml")}
#: Of pydantic, of Python, and of the types that the settings have in the code.
LIBRARY = re.compile(
    r"Input should|valid (integer|string|number|list|dict)|pydantic|https?://errors|Extra inputs|Field required"
    r"|Value error"
    r"|\b(int|str|float|bool|NoneType|dict|tuple|datetime)\b|\[type=|input_value|constrained|function-|union\[|literal"
    r"|\b(AttackSettings|FinetuneSettings|ScratchScale|HubScale|CAdvUL|Overridable)\b"
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**30, 1.5, -0.5, 1e300, "", " ", "x", "y" * 5_000, "a\x1b[31mb", "é\u2028"),
    *([], [None], [[]], ["x"], [1, 1], {}, {"x": 1}, {"kind": "x"}, {"kind": []}, {"overrides": 3}, [{}]),
)


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(StudyError) as caught:
        parse_study(values, "x.yaml")
    return str(caught.value)


def changed(base: str, place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    values = copy.deepcopy(BASES[base])
    node: Any = values
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    return values


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        (("finetune", "steps"), True, "finetune.steps: found true, expected a whole number of at least 1 and at most"),
        (("seed",), True, "seed: found true, expected a whole number of at least 0 and at most"),
        (("finetune", "steps"), "800", "finetune.steps: found '800', expected a whole number of at least 1"),
        (("finetune", "steps"), 2.5, "finetune.steps: found 2.5, expected a whole number of at least 1"),
        (("finetune", "steps"), "010", "finetune.steps: found '010', expected a whole number of at least 1"),
        (("finetune", "steps"), [8], "finetune.steps: found a list, expected a whole number of at least 1"),
        (("attacks", "gcg", "gradient"), 1, "attacks.gcg.gradient: found 1, expected true or false"),
        (("attacks", "gcg", "gradient"), "yes", "attacks.gcg.gradient: found 'yes', expected true or false"),
        (("name",), 7, "name: found 7, expected a name: at most 60 lower-case letters"),
        (("evaluate", 0, "attacks", 0), True, "evaluate.0.attacks.0: found true, expected a name"),
        (("finetune",), None, "finetune: found null, expected a mapping of keys"),
        (("grid",), {"tasks": []}, "grid: found a mapping, expected a list"),
        (("attacks",), ["gcg"], "attacks: found a list, expected a mapping of keys"),
        (("keep_models",), "none", "keep_models: found 'none', expected 'evaluated' or 'all'"),
        (("attacks", "gcg", "kind"), "gcgg", "attacks.gcg.kind must be one of 'gcg', 'random_token', 'beast'"),
        (("attacks", "gcg", "kind"), [], "attacks.gcg.kind must be one of 'gcg'"),
        (
            ("evaluate", 0, "rounds"),
            "first",
            "evaluate.0.rounds: found 'first', expected 'paper', 'all' or 'last', or a list",
        ),
        (("evaluate", 0, "rounds"), [1.5], "evaluate.0.rounds.0: found 1.5, expected a whole number"),
        (
            ("ranks",),
            "many",
            "ranks: found 'many', expected a whole number of at least 1 and at most 10,000, or a mapping",
        ),
        (("ranks",), {"default": True}, "ranks.default: found true, expected a whole number"),
        (("families", "nano", "scales", "30k", "n_layers"), True, "families.nano.scales.30k.n_layers: found true"),
        (("families", "nano", "scales", "30k", "hub"), "a/b", "families.nano.scales.30k.hub: unknown key"),
        (
            ("families", "nano", "scales", "30k"),
            {},
            "families.nano.scales.30k: exactly one of hub, path, gguf is needed",
        ),
        (("families", "nano", "scales"), ["30K"], "families.nano.scales.0: found '30K', expected a name"),
        (("finetune", "optimizer", "betas"), 0.9, "finetune.optimizer.betas: found 0.9, expected a list"),
        (("finetune", "overrides", 0, "set"), {"optimizer": [1]}, "finetune.overrides.0.set.optimizer: found a list"),
        (("finetune", "overrides", 0, "set"), {"n": 1}, "finetune.overrides.0.set.n: unknown key; see docs/study.md"),
        (
            ("defenses", "c-at", "attack", "positions"),
            "suffix",
            "defenses.c-at.attack.positions: found suffix; a classifier",
        ),
        (("defenses", "c-at", "attack", "eps"), None, "defenses.c-at.attack.step_size_mode: relative_eps needs a ball"),
        (("seed",), 10**5_000, "seed: found a number of too many digits, expected"),
        (("description",), {"a": 1}, "description: found a mapping, expected text"),
    ],
    ids=lambda one: ".".join(map(str, one)) if isinstance(one, tuple) else "",
)
def test_key_found_and_expected(place, value, line):
    message = refusal(changed("config.yaml", place, value))
    assert message.startswith(f"x.yaml: {line}"), message
    assert "\n" not in message and not LIBRARY.search(message.replace("'yes'", "")), message


def test_a_key_that_is_missing_or_unknown():
    values = copy.deepcopy(BASES["config.yaml"])
    del values["grid"], values["attacks"]["gcg"]["kind"]
    assert set(refusal({**values, "sede": 1}).splitlines()) == {
        "x.yaml: grid: this key is required",
        "x.yaml: sede: unknown key; see docs/study.md or workflow/schemas/study.schema.json for what is allowed",
        *(line for line in refusal(values).splitlines() if line.startswith("x.yaml: attacks.gcg.kind must be one of")),
    }


def places(value: Any, place: tuple[Any, ...] = ()) -> Any:
    if place:
        yield place
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*place, key))


@pytest.mark.parametrize("base", BASES)
def test_no_message_about_any_key_has_a_librarys_words(base):
    """Every place of a study, each with values of every type that none of them may be."""
    n_refused = 0
    for i, place in enumerate(places(BASES[base])):
        for value in ODD[i % 3 :: 3]:
            try:
                parse_study(changed(base, place, value), "x.yaml")
            except StudyError as error:
                n_refused += 1
                for line in str(error).split("\n"):
                    assert line.startswith("x.yaml: ") and line.isprintable() and len(line) < 1_000, (place, value)
                    shown = re.sub(r"'[^']*'", "", line.partition("(the words are in")[0])
                    assert not LIBRARY.search(shown), (place, value, line)
    assert n_refused > 500


def test_the_first_problems_and_how_many_more_there_are():
    values = {**BASES["config.yaml"], **{f"k{i}": i for i in range(5_000)}}
    lines = refusal(values).splitlines()
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1] == f"x.yaml: {5_000 - MAX_PROBLEMS:,} more problems"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        ([], "an empty list"),
        ((1,), "a list"),
        ({}, "an empty mapping"),
        ({"a": 1}, "a mapping"),
        (5, "5"),
        (1e30, "1e+30"),
        ("a\x1b[31m\n", r"'a\x1b[31m\n'"),
        ("\u202e", r"'\u202e'"),
        (10**5_000, "a number of too many digits"),
        ("x" * 5_000, f"'{'x' * 56}..."),
    ],
    ids=lambda one: "",
)
def test_a_value_is_shown_as_yaml_has_it_short_and_on_one_line(value, words):
    assert found(value) == words


def test_the_study_itself_names_no_type_of_the_code():
    """Were the check of a study asked without our words, the library's would come: the test above can fail."""
    with pytest.raises(ValueError, match="validation errors for Study") as caught:
        Study.model_validate({"name": "a"})
    assert LIBRARY.search(str(caught.value))
