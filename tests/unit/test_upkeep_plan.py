"""The jobs that upkeep knows are those that Snakemake would run: files, logs, state, and the name that Slurm sees."""

import re
from pathlib import Path

import pytest
import yaml
from upkeep_kit import jobs_of, make, publish_one, quick_publishing, write

from hardscale.ops.cli import study_from_files
from hardscale.plan.jobs import Jobs
from hardscale.plan.steps import plan
from hardscale.plan.table import PHASES
from study_runs import ROOT, StudyRun

_JOB = re.compile(r"^Reason: (.*)\nShell command: (.*)$", re.MULTILINE)
_UPDATED = "Input files updated by another job: "


@pytest.fixture(scope="module")
def run(sources, tmp_path_factory):
    """Two families, one of them pretrained, two blocks of rounds, an attack in shards."""
    folder = tmp_path_factory.mktemp("plan")
    study = {
        "extends": str(sources / "studies" / "tiny.yaml"),
        "name": "many",
        "defenses": {"adversarial-rounds": {"rounds": 3, "rounds_per_job": 2}},
        "evaluate": [
            {"attacks": ["gcg"], "defenses": ["none", "adversarial-rounds"], "rounds": "last", "shards": 2},
            {"attacks": ["random-token"], "defenses": ["none"]},
        ],
        "families": {"nano": {"pretrain": {"steps": 2}}},
    }
    config = folder / "many.yaml"
    config.write_text(yaml.safe_dump(study))
    return StudyRun(sources, config, folder)


@pytest.fixture(scope="module")
def steps(run):
    return plan(Jobs(study_from_files([run.config])))


def test_the_plan_is_the_workflow(run, steps):
    done = run.snakemake("-n", "-p")
    assert done.status == 0, done.text
    dag = {re.search(r"--log (\S+)", command)[1]: (reason, command) for reason, command in _JOB.findall(done.text)}
    assert {step.log for step in steps} == set(dag)
    for step in steps:
        reason, command = dag[step.log]
        # From nothing, every input that a job makes is one that another job updates.
        assert sorted(step.inputs) == sorted(filter(None, reason.partition(_UPDATED)[2].split(", ")))
        state = re.search(r"--state (\S+)", command)
        assert step.state == (state and state[1])
    assert {step.phase for step in steps} == set(PHASES)


def test_every_output_is_made_by_its_rule(run, steps):
    done = run.snakemake("-D", "--quiet", "all")
    rows = [line.split("\t") for line in done.text.splitlines() if line.startswith("results/")]
    assert {row[0]: row[2] for row in rows} == {output: step.rule for step in steps for output in step.outputs}


def test_logs_and_benchmarks_lie_beside_each_other_and_slurm_names_an_attack_as_its_output_does():
    for job in jobs_of().all():
        log, benchmark = (path.partition("/s/")[2] for path in (job.log, job.benchmark))
        assert log.removeprefix("logs/").removesuffix(".log") == benchmark.removeprefix("benchmarks/").removesuffix(
            ".tsv"
        )
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        assert not re.search(r"ROOT\}?/", path.read_text()), f"{path.name} spells a path that the job table has"
    assert re.findall(r"\{(\w+)\}", jobs_of().attack.outputs.manifest) == ["lineage", "round", "part"]
    attack = next(step for step in plan(jobs_of()) if step.rule == "attack")
    assert attack.slurm_comment == "rule_attack_wildcards_password_match_nano_a_s0_none_00_gcg"


def test_every_step_comes_after_those_that_it_needs(steps):
    made: set[str] = set()
    for step in steps:
        assert set(step.inputs) <= made
        made |= set(step.outputs)


def test_snakemake_has_nothing_to_do_after_gc(run, steps, tmp_path, monkeypatch):
    run = run.elsewhere(tmp_path)
    monkeypatch.chdir(tmp_path)
    quick_publishing(monkeypatch)
    for step in steps:
        make(step)  # with the weights of every round: more than the study keeps
    assert run.snakemake("--touch", "--quiet", "all").status == 0
    assert "Nothing to be done" in run.snakemake("-n").text
    litter = [
        write(f"{next(s.state for s in steps if s.rule == 'finetune')}/checkpoints/step1/a", "w"),
        write("results/many/models/gone/nano/30k/s0/none/.r00.tmp-0123456789ab/a", "w", age=7200.0),
        Path("results/many/models/password_match/nano/30k/s0/adversarial-rounds/r01/model/model.safetensors"),
        *orphan(),
    ]
    assert all(path.exists() for path in litter)
    done = run.entry("reclaim", "--study", run.config, "--orphans", "--yes")
    assert done.status == 0, done.text
    assert not any(path.exists() for path in litter)
    assert "Nothing to be done" in run.snakemake("-n").text


def orphan() -> list[Path]:
    """An attack of an earlier version of the study, and its model."""
    folders = ["models/password_match/nano/1m/s0/none/r00", "attacks/password_match/nano/1m/s0/none/r00/gcg"]
    for folder in folders:
        publish_one(f"results/many/{folder}/manifest.json")
    return [Path("results/many", folder) for folder in folders]
