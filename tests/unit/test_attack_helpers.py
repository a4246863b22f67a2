"""Models that help an attack: which an attack of a cell uses, also where only an override names it."""

from __future__ import annotations

from typing import Any

import pytest

from hardscale.errors import StudyError
from hardscale.plan.jobs import Jobs
from hardscale.settings.attacks import AttackBase
from hardscale.study import Study, parse_study

SCALES = {name: {"n_layers": 1, "width": 8 * i, "n_heads": 1} for i, name in enumerate("abc", 1)}


def study(beast: dict[str, Any]) -> Study:
    values = {
        "name": "helped",
        "tasks": {"password_match": {}},
        "families": {"tiny": {"source": "scratch", "scales": SCALES}},
        "grid": [{"tasks": ["password_match"], "families": ["tiny"], "seeds": [0]}],
        "attacks": {"beast": {"kind": "beast", **beast}, "gcg": {"kind": "gcg"}},
        "evaluate": [{"attacks": ["beast", "gcg"], "defenses": ["none"]}],
    }
    return parse_study(values, "helped.yaml")


def override(scale: str, **values: Any) -> dict[str, Any]:
    return {"where": {"scale": [scale]}, "set": values}


def helpers(beast: dict[str, Any], attack: str = "beast") -> dict[str, Any]:
    jobs = Jobs(study(beast))
    return {s: jobs.helpers.scales(f"password_match/tiny/{s}/s0/none", attack) for s in SCALES}


def test_the_smallest_of_a_family_is_its_first() -> None:
    assert helpers({"sampler": "smallest"}) == {scale: {"sampler": ("tiny", "a")} for scale in SCALES}
    assert helpers({"sampler": "smallest"}, "gcg") == {scale: {} for scale in SCALES}


def test_a_helper_that_only_an_override_names_is_seen() -> None:
    beast = {"sampler": "victim", "overrides": [override("c", sampler={"family": "tiny", "scale": "b"})]}
    assert helpers(beast) == {"a": {}, "b": {}, "c": {"sampler": ("tiny", "b")}}
    assert Jobs(study(beast)).helpers.needed
    assert study(beast).other_models() == [("tiny", "b")]


def test_a_helper_that_an_override_takes_away_is_not_asked_for() -> None:
    beast = {"sampler": {"family": "tiny", "scale": "b"}, "overrides": [override("b", sampler="victim")]}
    assert helpers(beast) == {"a": {"sampler": ("tiny", "b")}, "b": {}, "c": {"sampler": ("tiny", "b")}}


def test_an_unknown_helper_of_an_override_is_refused() -> None:
    with pytest.raises(StudyError, match=r"attacks\.beast\.sampler\.scale: 'bb' is not one of a, b, c"):
        study({"sampler": "victim", "overrides": [override("c", sampler={"family": "tiny", "scale": "bb"})]})


def test_each_form_of_a_block_comes_once() -> None:
    block = {"overrides": [override("b", n_iterations=3), override("c", n_iterations=3), override("c", beam=2)]}
    found = study({"sampler": "victim", **block})
    forms = list(found.forms(found.attacks["beast"]))
    assert sorted((form.n_iterations, form.beam) for form in forms if isinstance(form, AttackBase)) == [
        (3, 2),
        (3, 15),
        (40, 15),
    ]
    assert list(found.forms(found.attacks["gcg"])) == [found.attacks["gcg"]]
