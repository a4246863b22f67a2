"""Tables and figures of a study with chat models: what the rules declare, and what upkeep knows of it."""

from __future__ import annotations

import re

import pytest
import yaml

from hardscale.cli import study_from_files
from hardscale.jobs import CHAT_FIGURES, FIGURES, Jobs
from hardscale.study import parse_study
from hardscale.upkeep.plan import plan
from study_runs import StudyRun

SCALES = {"a": {"n_layers": 1, "width": 8, "n_heads": 1}}
CHAT = {"kind": "behaviors", "test": {"behaviors": "test.csv"}, "train": {"behaviors": "train.csv"}}
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
_JOB = re.compile(r"^Reason: (.*)\nShell command: (.*)$", re.MULTILINE)
_UPDATED = "Input files updated by another job: "


@pytest.mark.parametrize("study", [STUDY, MIXED], ids=["chat alone", "both"])
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
    assert alone.figure_names == CHAT_FIGURES
    assert both.figure_names == (*FIGURES, *CHAT_FIGURES, "joint_defense_compute")
    names = {table.rpartition("/")[2] for table in alone.tables()}
    assert {"runs.parquet", "cost.csv", "cost.parquet", "utility.csv", "losses.parquet", "gains.csv"} <= names
    for jobs in (alone, both):
        wanted = {table for name in jobs.figure_names for table in jobs.chat.figure_tables(name)}
        assert wanted and wanted <= set(jobs.tables())
    assert alone.chat.figure_tables("asr_by_round") == []


def test_a_study_without_chat_models_has_the_cost_table_and_no_others():
    classifiers = {
        **MIXED,
        "tasks": {"password_match": {}},
        "grid": [{**MIXED["grid"][0], "tasks": ["password_match"]}],
        "evaluate": [{**MIXED["evaluate"][1], "where": {}}],
    }
    jobs = Jobs(parse_study(classifiers, "s.yaml"))
    names = {table.rpartition("/")[2] for table in jobs.tables()}
    assert "cost.parquet" in names and not {"utility.parquet", "losses.parquet"} & names
    assert jobs.figure_names == (*FIGURES, "joint_defense_compute")
    assert [path.rpartition("/models/")[2] for path in jobs.defended_models()] == [
        "password_match/tiny/a/s0/c-at/r02/manifest.json",
        "password_match/tiny/a/s0/rounds/r02/manifest.json",
    ]


def test_the_cost_of_a_study_follows_its_last_models():
    steps = {step.rule: step for step in plan(Jobs(parse_study(MIXED, "s.yaml")))}
    assert steps["cost"].inputs == tuple(Jobs(parse_study(MIXED, "s.yaml")).defended_models())
    assert all("/apples/" in path for path in steps["collect_utility"].inputs)
