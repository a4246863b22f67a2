"""Blocks of attacks say all that others know of an attack: no other module names one."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import hardscale
from hardscale.settings import attacks
from hardscale.settings.attack_base import PROMPT, VOCABULARY, AttackBase, Facts
from hardscale.settings.chat import ModelName
from hardscale.settings.defenses import AttackInTraining
from hardscale.settings.study_attacks import ATTACK_KINDS, attack_facts, attack_kinds

ROOT = Path(hardscale.__path__[0])
#: May name attacks: their blocks, the inner attacks of defenses, what was published.
MAY = ("settings/attacks.py", "settings/defenses.py", "papers/")


def named(place: str, source: str) -> Iterator[str]:
    """Kinds of attacks that a module names and may not."""
    for node in ast.walk(ast.parse(source)):
        kind = node.value if isinstance(node, ast.Constant) else None
        own = place.startswith(f"attacks/{kind}")
        if isinstance(kind, str) and kind in ATTACK_KINDS and not own and not place.startswith(MAY):
            yield f"{place}:{node.lineno}: {kind}"


def test_only_an_attack_and_its_block_know_its_kind() -> None:
    found = [
        line
        for path in sorted(ROOT.rglob("*.py"))
        for line in named(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_name_is_found_wherever_it_stands() -> None:
    code = "f(kind == 'gcg', x=('a', 'beast'), y=f'{z}pair')\n"
    assert list(named("figures/data.py", code)) == [f"figures/data.py:1: {kind}" for kind in ("gcg", "beast", "pair")]
    assert list(named("attacks/pair_attacker.py", code)) == [
        f"attacks/pair_attacker.py:1: {k}" for k in ("gcg", "beast")
    ]
    assert list(named("papers/values.py", code)) == []


@pytest.mark.parametrize("kind", ATTACK_KINDS)
def test_a_runner_takes_the_settings_and_the_call(kind: str) -> None:
    module, _, name = attack_facts(kind).runner.partition(":")
    assert module == attack_facts(kind).module == f"hardscale.attacks.{kind}"
    settings, call = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    assert (settings.annotation, call.annotation) == (ATTACK_KINDS[kind].__name__, "Call")


@pytest.mark.parametrize("kind", ATTACK_KINDS)
def test_facts_name_settings_that_the_block_has(kind: str) -> None:
    block = ATTACK_KINDS[kind].model_validate({"kind": kind})
    facts = block.facts
    assert facts is attack_facts(kind) and facts.label
    bounds = {bound for bound in facts.within.values() if bound not in (PROMPT, VOCABULARY)}
    numbers = {facts.ranks, facts.replaces, facts.adds, facts.replies, *facts.within, *bounds}
    numbers |= {role.writes for role in facts.roles.values()}
    assert all(isinstance(block.value(key), int) for key in numbers - {""})
    assert {*facts.roles, *facts.by_victim} <= set(type(block).model_fields)
    # Whoever plays a role is named by a setting; a setting that names a model is a role.
    fields = type(block).model_fields.items()
    assert [name for name, field in fields if ModelName.__name__ in repr(field.annotation)] == list(facts.roles)
    chat, classifier = (block.for_victim(chat=one) for one in (True, False))
    assert all(chat.value(key) is not None and classifier.value(key) is not None for key in facts.by_victim)
    assert (chat.pool(True), classifier.pool(False)) == ("printable_ascii" if facts.ascii_on_chat else "any", "any")


def test_the_kinds_are_those_of_the_blocks_where_attacks_are() -> None:
    """The training attack derives from a block of an attack, and is none that a study may name."""
    blocks = [one for one in vars(attacks).values() if isinstance(one, type) and issubclass(one, AttackBase)]
    assert set(ATTACK_KINDS.values()) == {block for block in blocks if block is not AttackBase}
    assert AttackInTraining not in ATTACK_KINDS.values()
    assert AttackInTraining(kind="gcg").facts is attack_facts(attacks.DEFAULT_KIND) is attack_facts("gcg")


def test_facts_are_in_no_spec() -> None:
    for kind, block in ATTACK_KINDS.items():
        dumped = block.model_validate({"kind": kind, "seed": 1}).model_dump()
        assert set(dumped) == set(block.model_fields) and not {"kinds", "facts"} & set(dumped)


def test_a_kind_that_is_not_ours_has_no_facts() -> None:
    assert attack_facts("theirs") == attack_facts(None) == Facts("", "")
    assert attack_kinds(lambda attack: attack.space == "embeddings") == ["embedding"]
    assert attack_kinds(lambda attack: bool(attack.ranks)) == ["gcg"]


def test_what_an_attack_adds_and_must_not_exceed() -> None:
    def limits(kind: str, **values: object) -> list[tuple[str, int, str]]:
        return list(ATTACK_KINDS[kind].model_validate({"kind": kind, **values}).limits())

    assert limits("gcg") == [("n_attack_tokens", 10, PROMPT), ("top_k", 256, VOCABULARY)]
    assert limits("gcg", gradient=False) == limits("random_token") == [("n_attack_tokens", 10, PROMPT)]
    assert limits("beast") == [("n_iterations", 40, PROMPT), ("branching", 15, VOCABULARY)]
    assert limits("adaptive") == [("n_attack_tokens", 25, PROMPT), ("n_replaced", 4, "n_attack_tokens")]
    assert limits("prefill") == limits("embedding") == limits("pair") == []
    suffix = {"positions": "suffix", "n_suffix_tokens": 7}
    assert limits("embedding", perturbation=suffix) == [("perturbation.n_suffix_tokens", 7, PROMPT)]
    assert ATTACK_KINDS["prefill"].model_validate({"kind": "prefill"}).added_tokens() == ("n_prefill_tokens", 10)
