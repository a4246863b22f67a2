"""What the jobs of a study are told."""

import json
from types import SimpleNamespace

from hardscale.artifacts.digest import versions_digest
from hardscale.plan.jobs import Jobs
from hardscale.settings.study import parse_study

STUDY = {
    "name": "s",
    "tasks": {
        "ends": {"source": "a.csv", "text": "t", "label": "y", "labels": ["0", "1"]},
        "starts": {"source": "a.csv", "text": "t", "label": "y", "labels": ["0", "1"], "position": "prefix"},
    },
    "families": {"mine": {"source": "models", "scales": {"small": {"path": "m"}}}},
    "grid": [{"tasks": ["ends", "starts"], "families": ["mine"], "seeds": [0]}],
    "defenses": {"rounds": {"rounds": 3, "rounds_per_job": 3, "attack": {"kind": "gcg"}}},
    "attacks": {"gcg": {"kind": "gcg"}, "inside": {"kind": "gcg", "position": "infix90"}},
    "evaluate": [{"attacks": ["gcg", "inside"], "defenses": ["none", "rounds"], "rounds": "last"}],
}


def position(jobs: Jobs, task: str, attack: str) -> str:
    wildcards = SimpleNamespace(lineage=f"{task}/mine/small/s0/none", round="00", part=attack)
    return json.loads(jobs.specs.attack(wildcards))["settings"]["position"]


def test_an_attack_has_its_own_seed_or_one_of_the_cell():
    def told(**attack: object) -> list[dict]:
        jobs = Jobs(
            parse_study({**STUDY, "attacks": {"gcg": {"kind": "gcg", **attack}, "inside": {"kind": "gcg"}}}, "s")
        )
        places = [
            SimpleNamespace(lineage=f"{t}/mine/small/s0/none", round="00", part="gcg") for t in ("ends", "starts")
        ]
        return [json.loads(jobs.specs.attack(place)) for place in places]

    plain, published = told(), told(seed=0)
    assert len({spec["seed"] for spec in plain}) == 2
    assert [spec["seed"] for spec in published] == [0, 0]
    # Nothing else in a spec tells of it: a study without such seeds keeps its specs.
    assert all("seed" not in spec["settings"] for spec in plain + published)


def test_an_attack_writes_where_it_says_or_else_where_the_task_says():
    jobs = Jobs(parse_study(STUDY, "s.yaml"))
    found = {
        (task, attack): position(jobs, task, attack) for task in ("ends", "starts") for attack in ("gcg", "inside")
    }
    assert found == {
        ("ends", "gcg"): "suffix",
        ("starts", "gcg"): "prefix",
        ("ends", "inside"): "infix90",
        ("starts", "inside"): "infix90",
    }
    (block,) = jobs.grid.blocks
    assert (block.first, block.last) == (1, 3)
    spec = jobs.specs.rounds(block)(SimpleNamespace(lineage="starts/mine/small/s0/rounds"))
    assert json.loads(spec)["settings"]["attack"]["position"] == "prefix"


def test_every_model_on_disk_is_asked_for_and_no_pruned_round():
    evaluated, everything = (
        Jobs(parse_study({**STUDY, "keep_models": keep}, "s.yaml")) for keep in ("evaluated", "all")
    )
    names = [
        {str(folder)[-10:] for folder in jobs.grid.model_folders() if "/rounds/" in str(folder)}
        for jobs in (evaluated, everything)
    ]
    assert names == [{"rounds/r03"}, {"rounds/r01", "rounds/r02", "rounds/r03"}]


def test_a_block_declares_the_rounds_that_stay_and_no_others():
    evaluate = [{**row, "rounds": [2]} for row in STUDY["evaluate"]]
    some, everything = (
        Jobs(parse_study({**STUDY, "evaluate": evaluate, "keep_models": keep}, "s.yaml"))
        for keep in ("evaluated", "all")
    )
    assert [(block.name, block.kept) for block in some.grid.blocks] == [("adversarial_rounds_01_03", (2, 3))]
    assert [block.kept for block in everything.grid.blocks] == [(1, 2, 3)]


def test_versions_of_libraries_count_where_the_study_says_so_and_nowhere_else(monkeypatch):
    import importlib.metadata

    recorded, strict = (Jobs(parse_study({**STUDY, "versions": kind}, "s.yaml")) for kind in ("recorded", "strict"))
    assert Jobs(parse_study(STUDY, "s.yaml")).study.versions == "recorded"
    modules = ("hardscale.training.finetune", "hardscale.analysis.fit")
    before = [(recorded.codes.of(module), strict.codes.of(module)) for module in modules]
    honest = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == "deepspeed" else honest(name))
    versions_digest.cache_clear()
    after = [(recorded.codes.of(module), strict.codes.of(module)) for module in modules]
    versions_digest.cache_clear()
    assert [one == other for pair in zip(before, after, strict=True) for one, other in zip(*pair, strict=True)] == [
        *(True, False),  # finetuning imports deepspeed
        *(True, True),
    ]
