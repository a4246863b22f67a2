"""Tables and figures of a study with chat models: what the rules declare, and what upkeep knows of it."""

from __future__ import annotations

import json
import os
import re
from types import SimpleNamespace

import pytest
import yaml

from hardscale.errors import StudyError
from hardscale.evaluation.lm_eval_tool import PYTHON
from hardscale.ops.cli import study_from_files
from hardscale.plan.grid import StudyGrid
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import part_name
from hardscale.plan.specs import Specs
from hardscale.plan.steps import plan
from hardscale.settings.study import parse_study
from study_runs import StudyRun

FIGURES = (
    "asr_vs_parameters",
    "attack_scaling",
    "attack_comparison",
    "asr_by_round",
    "defense_scaling",
    "offense_defense",
    "clean_accuracy",
)
BY_SIZE = "chat_asr_by_size"
CHAT_FIGURES = (
    "robustness_bars",
    "ablations",
    "loss_correlation",
    "embedding_losses",
    "chat_defense_compute",
    BY_SIZE,
)
SCALES = {"a": {"n_layers": 1, "width": 8, "n_heads": 1}}
CHAT = {
    "kind": "behaviors",
    "test": {"behaviors": "test.csv"},
    "train": {"behaviors": "train.csv"},
    "utility": {"source": "talk.jsonl"},
}
STUDY = {
    "name": "chats",
    "tasks": {"apples": CHAT},
    "families": {"tiny": {"source": "scratch", "scales": SCALES}},
    "grid": [{"tasks": ["apples"], "families": ["tiny"], "seeds": [0]}],
    "defenses": {"ipo": {"kind": "c_advipo"}, "plain": {"kind": "c_advipo", "attack": None}},
    "attacks": {"gcg": {"kind": "gcg"}, "embedding": {"kind": "embedding"}, "pair": {"kind": "pair"}},
    "evaluate": [{"attacks": ["gcg", "embedding", "pair"], "defenses": ["none", "ipo", "plain"], "shards": 2}],
    "utility": {},
}
MIXED = {
    **STUDY,
    "tasks": {"apples": CHAT, "password_match": {}},
    "grid": [{"tasks": ["apples", "password_match"], "families": ["tiny"], "seeds": [0]}],
    "defenses": {**STUDY["defenses"], "c-at": {"kind": "c_at", "checkpoints": 2}, "rounds": {"rounds": 2}},
    "evaluate": [
        {**STUDY["evaluate"][0], "where": {"task": ["apples"]}},
        {
            "attacks": ["gcg"],
            "defenses": ["none", "c-at", "rounds"],
            "where": {"task": ["password_match"]},
        },
    ],
}
#: With every measure, rated by a model that is no cell.
MEASURED = {
    **MIXED,
    "families": {**MIXED["families"], "graders": {"source": "models", "scales": {"g": {"path": "graders/g"}}}},
    "utility": {
        "lm_eval": {"tasks": ["toy"]},
        "mt_bench": {"questions": "question.jsonl", "judge": {"family": "graders", "scale": "g"}},
    },
}
#: With a judge and an attacker that are no cells.
HELPED = {
    **STUDY,
    "families": {
        **STUDY["families"],
        "others": {"source": "models", "scales": {"j": {"path": "others/j"}, "a": {"path": "others/a"}}},
    },
    "attacks": {**STUDY["attacks"], "pair": {"kind": "pair", "attacker": {"family": "others", "scale": "a"}}},
    "judges": [{"kind": "rules"}, {"kind": "rubric", "wording": "own", "model": {"family": "others", "scale": "j"}}],
}
_JOB = re.compile(r"^Reason: (.*)\nShell command: (.*)$", re.MULTILINE)
_UPDATED = "Input files updated by another job: "


@pytest.mark.parametrize("study", [STUDY, MEASURED, HELPED], ids=["chat alone", "both, every measure", "helpers"])
def test_the_plan_is_the_workflow(sources, tmp_path, study):
    config = tmp_path / "chats.yaml"
    config.write_text(yaml.safe_dump(study))
    done = StudyRun(sources, config, tmp_path).snakemake("-n", "-p")
    assert done.status == 0, done.text
    assert "localrules directive" not in done.text
    dag = {re.search(r"--log (\S+)", command)[1]: reason for reason, command in _JOB.findall(done.text)}
    steps = plan(Jobs(study_from_files([config])))
    assert {step.log for step in steps} == set(dag)
    for step in steps:
        assert sorted(step.inputs) == sorted(filter(None, dag[step.log].partition(_UPDATED)[2].split(", ")))


def test_figures_and_their_tables_are_those_of_the_tasks():
    alone, both = (Jobs(parse_study(study, "s.yaml")) for study in (STUDY, MIXED))
    of_one_size = tuple(name for name in CHAT_FIGURES if name != BY_SIZE)
    assert alone.outputs_of.figure_names == of_one_size
    assert both.outputs_of.figure_names == (*FIGURES, *of_one_size, "joint_defense_compute")
    names = {table.rpartition("/")[2] for table in alone.outputs_of.tables()}
    assert {"runs.parquet", "cost.csv", "cost.parquet", "utility.csv", "losses.parquet", "gains.csv"} <= names
    for jobs in (alone, both):
        wanted = {table for name in jobs.outputs_of.figure_names for table in jobs.outputs_of.tables_of(name)}
        assert wanted and wanted <= set(jobs.outputs_of.tables())
    assert alone.outputs_of.tables_of("asr_by_round") == []


def test_the_figure_by_size_is_drawn_where_a_family_of_chat_models_has_several_sizes():
    two = {name: {"source": "scratch", "scales": {**SCALES, "b": SCALES["a"]}} for name in ("tiny", "other")}

    def names(*grid, study=STUDY):
        rows = [{"families": ["tiny"], "seeds": [0], **row} for row in grid]
        return Jobs(parse_study({**study, "families": two, "grid": rows}, "s.yaml")).outputs_of.figure_names

    assert names({"tasks": ["apples"], "scales": ["a", "b"]}) == CHAT_FIGURES
    assert names({"tasks": ["apples"], "scales": ["a"]}, {"tasks": ["apples"], "scales": ["b"]}) == CHAT_FIGURES
    apart = ({"tasks": ["apples"], "scales": ["a"]}, {"tasks": ["apples"], "families": ["other"], "scales": ["b"]})
    assert BY_SIZE not in names(*apart)
    classifiers = {"tasks": ["password_match"], "scales": ["a", "b"]}
    assert BY_SIZE not in names({"tasks": ["apples"], "scales": ["a"]}, classifiers, study=MIXED)


def test_a_study_without_chat_models_has_the_cost_table_and_no_others():
    classifiers = {
        **MIXED,
        "tasks": {"password_match": {}},
        "grid": [{**MIXED["grid"][0], "tasks": ["password_match"]}],
        "evaluate": [{**MIXED["evaluate"][1], "where": {}}],
        "utility": None,
    }
    jobs = Jobs(parse_study(classifiers, "s.yaml"))
    names = {table.rpartition("/")[2] for table in jobs.outputs_of.tables()}
    assert "cost.parquet" in names and not {"utility.parquet", "losses.parquet"} & names
    assert jobs.outputs_of.figure_names == (*FIGURES, "joint_defense_compute")
    assert [path.rpartition("/models/")[2] for path in jobs.grid.defended_models()] == [
        "password_match/tiny/a/s0/c-at/r02/manifest.json",
        "password_match/tiny/a/s0/rounds/r02/manifest.json",
    ]


def test_the_cost_of_a_study_follows_its_last_models():
    steps = {step.rule: step for step in plan(Jobs(parse_study(MIXED, "s.yaml")))}
    assert steps["cost"].inputs == tuple(Jobs(parse_study(MIXED, "s.yaml")).grid.defended_models())
    assert all("/apples/" in path for path in steps["collect_utility"].inputs)


def test_measures_with_jobs_of_their_own_change_no_spec_of_utility_and_know_no_interpreter(monkeypatch):
    plain, measured = (Jobs(parse_study(study, "s.yaml")) for study in (MIXED, MEASURED))
    wildcards = SimpleNamespace(lineage="apples/tiny/a/s0/ipo", round="01")
    assert plain.specs.utility(wildcards) == measured.specs.utility(wildcards)
    assert plain.measures.kinds == [] and list(plain.measures.folders()) == []
    assert {path.parts[2] for path in measured.measures.folders()} == {"lm_eval", "mt_bench"}
    assert len(list(measured.measures.folders("lm_eval"))) == len(list(measured.chat.utility_folders())) == 3
    assert measured.measures.rating_models() == ["results/chats/base/graders/g/manifest.json"]
    named = {**MEASURED["utility"], "lm_eval": {"tasks": ["toy"], "python": "/venv/bin/python"}}
    with_python = Jobs(parse_study({**MEASURED, "utility": named}, "s.yaml"))
    assert with_python.measures.lm_eval_spec(wildcards) == measured.measures.lm_eval_spec(wildcards)
    assert "python" not in with_python.measures.lm_eval_spec(wildcards)
    monkeypatch.delenv(PYTHON, raising=False)
    measured.measures.name_interpreter()
    assert PYTHON not in os.environ
    monkeypatch.setenv(PYTHON, "/another")
    with_python.measures.name_interpreter()
    assert os.environ[PYTHON] == "/venv/bin/python"


def test_files_of_measures_are_watched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARDSCALE_DATA", raising=False)
    utility = {**MEASURED["utility"], "lm_eval": {"tasks": ["toy"], "include_path": "tasks"}}
    measures = Jobs(parse_study({**MEASURED, "utility": utility}, "s.yaml")).measures
    assert measures.lm_eval_files() == measures.mt_bench_files() == []
    (tmp_path / "tasks/deep").mkdir(parents=True)
    for name in ("tasks/toy.yaml", "tasks/deep/rows.jsonl", "question.jsonl"):
        (tmp_path / name).touch()
    assert measures.lm_eval_files() == [str(tmp_path / "tasks/deep/rows.jsonl"), str(tmp_path / "tasks/toy.yaml")]
    assert measures.mt_bench_files() == ["question.jsonl"]


def test_what_the_kind_of_victim_decides_is_in_the_specs_of_its_jobs():
    """The study says nothing: chat models as published for them, classifiers as in the scaling study."""
    attacks = {**MIXED["attacks"], "beast": {"kind": "beast"}, "own": {"kind": "gcg", "allowed": "any", "held": "last"}}
    rows = [{**row, "attacks": ["gcg", "beast", "own"]} for row in MIXED["evaluate"]]
    grid = StudyGrid(parse_study({**MIXED, "attacks": attacks, "evaluate": rows}, "s.yaml"))
    specs = Specs(grid)

    def settings(task, attack):
        wildcards = SimpleNamespace(lineage=f"{task}/tiny/a/s0/none", round="0", part=part_name(attack, 1, 2))
        return json.loads(specs.attack(wildcards))["settings"]

    found = {task: settings(task, "gcg") for task in ("apples", "password_match")}
    assert {task: (one["allowed"], one["held"]) for task, one in found.items()} == {
        "apples": ("printable_ascii", "best"),
        "password_match": ("any", "last"),
    }
    assert (settings("apples", "own")["allowed"], settings("apples", "own")["held"]) == ("any", "last")
    assert settings("apples", "beast")["read_back"] and settings("password_match", "beast")["read_back"] is False
    rounds = json.loads(specs.rounds(grid.blocks[0])(SimpleNamespace(lineage="password_match/tiny/a/s0/rounds")))
    assert (rounds["settings"]["attack"]["allowed"], rounds["settings"]["attack"]["held"]) == ("any", "last")


# --- an attack with the ball of each model's training ----------------------------------------------------------------


def followed(defense: dict, embedding: dict, defenses: list[str] | None = None) -> dict:
    row = {"attacks": ["embedding"], "defenses": defenses or ["ul"]}
    blocks = {"ul": {"kind": "c_advul", **defense}, "sft": {"kind": "c_advul", "attack": None}}
    theirs = {"others": {"kind": "external", "base": "x"}}
    attack = {"kind": "embedding", "ball": "training", **embedding}
    return {**STUDY, "defenses": {**blocks, **theirs}, "attacks": {"embedding": attack}, "evaluate": [row]}


def test_an_attack_takes_the_ball_of_each_models_training() -> None:
    """Overrides of the defense applied; steps and start stay the attack's own."""
    grown = {"where": {"family": ["tiny"]}, "set": {"attack": {"eps": 0.1, "norm": "linf", "steps": 3}}}
    study = parse_study(followed({"overrides": [grown]}, {"perturbation": {"step_size": 0.002}}), "study.yaml")
    place = SimpleNamespace(lineage="apples/tiny/a/s0/ul", round="1", part="embedding")
    spec = json.loads(Jobs(study).specs.attack(place))
    settings = spec["settings"]["perturbation"]
    assert (settings["eps"], settings["norm"], settings["eps_mode"]) == (0.1, "linf", "relative_norm")
    assert settings["step_size"] == 0.002 and spec["settings"]["ball"] == "training"


@pytest.mark.parametrize(
    ("defense", "embedding", "defenses", "said"),
    [
        ({}, {}, ["none", "ul"], "'none' has no attack on embeddings"),
        ({}, {}, ["sft"], "'sft' has no attack on embeddings"),
        ({}, {}, ["others"], "'others' has no attack on embeddings"),
        ({}, {"perturbation": {"eps": 0.1}}, ["ul"], "attacks.embedding.perturbation.eps: given beside ball: training"),
        ({}, {"perturbation": {"norm": "linf"}}, ["ul"], "attacks.embedding.perturbation.norm: given beside"),
        (
            {"attack": {"eps": None}},
            {"perturbation": {"step_size_mode": "relative_norm", "init": "uniform_ball"}},
            ["ul"],
            "'ul' has eps: null",
        ),
        ({"overrides": [{"where": {}, "set": {"attack": None}}]}, {}, ["ul"], "'ul' has no attack on embeddings"),
    ],
)
def test_a_ball_that_no_training_has_is_refused(defense: dict, embedding: dict, defenses: list[str], said: str) -> None:
    with pytest.raises(StudyError) as refused:
        parse_study(followed(defense, embedding, defenses), "study.yaml")
    assert said in str(refused.value) and len(str(refused.value).splitlines()) == 1
