"""What the jobs of a study are told."""

import json
from types import SimpleNamespace

from hardscale.jobs import Jobs
from hardscale.study import parse_study

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
    return json.loads(jobs.attack_spec(wildcards))["settings"]["position"]


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
    spec = jobs.rounds_spec(1, 3)(SimpleNamespace(lineage="starts/mine/small/s0/rounds"))
    assert json.loads(spec)["settings"]["attack"]["position"] == "prefix"


def test_every_model_on_disk_is_asked_for_and_no_pruned_round():
    evaluated, everything = (
        Jobs(parse_study({**STUDY, "keep_models": keep}, "s.yaml")) for keep in ("evaluated", "all")
    )
    names = [
        {str(folder)[-10:] for folder in jobs.model_folders() if "/rounds/" in str(folder)}
        for jobs in (evaluated, everything)
    ]
    assert names == [{"rounds/r03"}, {"rounds/r01", "rounds/r02", "rounds/r03"}]
