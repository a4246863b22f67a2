"""Models that help an attack: which an attack of a cell uses, also where only an override names it."""

from __future__ import annotations

from typing import Any

import pytest

from hardscale.errors import StudyError
from hardscale.plan.jobs import Jobs
from hardscale.settings.attack_base import AttackBase
from hardscale.settings.study import Study, parse_study

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


def test_the_smallest_of_a_family_helps_all_its_scales() -> None:
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


def sampler(family: dict[str, Any], name: str, grid_scales: list[str] | None = None) -> tuple[str, str]:
    """The sampler of the first cell of a family."""
    row = {"tasks": ["password_match"], "families": [name], "seeds": [0]}
    values = {
        "name": "helped",
        "tasks": {"password_match": {}},
        "families": {name: family},
        "grid": [{**row, "scales": grid_scales} if grid_scales else row],
        "attacks": {"beast": {"kind": "beast"}},
        "evaluate": [{"attacks": ["beast"], "defenses": ["none"]}],
    }
    jobs = Jobs(parse_study(values, "helped.yaml"))
    cell = jobs.grid.cells[0]
    return jobs.helpers.scales(f"{cell.key}/none", "beast")["sampler"]


@pytest.mark.parametrize(
    ("family", "name", "grid", "wanted"),
    [
        ({"source": "builtin", "scales": ["1b", "31m", "410m"]}, "pythia", None, "31m"),
        # Not in the grid, yet of the family.
        ({"source": "builtin"}, "pythia", ["1b", "410m"], "14m"),
        ({"source": "builtin", "scales": ["14b", "0.5b", "1.5b"]}, "qwen2.5", ["14b"], "0.5b"),
        ({"source": "scratch", "scales": {name: SCALES[name] for name in "cab"}}, "tiny", None, "a"),
        ({"source": "scratch", "scales": {"z": SCALES["b"], "y": SCALES["b"]}}, "tiny", None, "z"),
        (
            {"source": "models", "scales": {"big-7b": {"path": "x"}, "small-160m": {"path": "y"}}},
            "own",
            None,
            "small-160m",
        ),
        (
            {"source": "models", "scales": {"x": {"path": "x", "n_params": 9}, "y": {"path": "y", "n_params": 3}}},
            "own",
            None,
            "y",
        ),
        # Of a size that nobody tells the order of the list is all that is known.
        ({"source": "models", "scales": {"x": {"path": "x"}, "y": {"path": "y", "n_params": 3}}}, "own", None, "x"),
    ],
)
def test_the_smallest_has_the_fewest_parameters(family: Any, name: str, grid: Any, wanted: str) -> None:
    assert sampler(family, name, grid) == (name, wanted)
