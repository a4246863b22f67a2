"""Attacks as tasks of arrays: each asks for its own memory, none waits for ever, each answers for itself alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from runs import QUICK, OnSlurm, wait_until_nothing_lives

from study_runs import StudyRun
from waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
PIECES = range(1, 7)
#: The first task of an array outlasts the third, the second the first, and fails, once. 6 needs more memory.
SNAKEFILE = """
import sys

sys.path.insert(0, {scripts!r})
from hardscale.launch.arrays import mend_arrays

mend_arrays()


rule all:
    input:
        expand("out/{{i}}", i=range(1, 7)),


rule piece:
    output:
        "out/{{i}}",
    resources:
        mem_mb=lambda wildcards: 600 if wildcards.i == "6" else 200,
        runtime=120,
    shell:
        "task=$(printenv SLURM_ARRAY_TASK_ID || true); echo array $task >> ran.{{wildcards.i}};"
        " scontrol show job -o $SLURM_JOB_ID | grep -o 'MinMemoryNode=[0-9]*' | sort -u > asked.{{wildcards.i}};"
        ' case "$task" in'
        " 1) if mkdir slow; then until [ -e ended.3 ]; do sleep 1; done; sleep 8; fi ;;"
        " 2) if mkdir failing; then until [ -e ended.1 ]; do sleep 1; done; sleep 5; exit 3; fi ;;"
        " esac; touch {{output}} ended.$task"
"""


def run(cluster, folder):
    (folder / "Snakefile").write_text(SNAKEFILE.format(scripts=str(ROOT / "scripts")))
    options = "--executor slurm --jobs 5 --retries 1 --keep-going --slurm-array-jobs piece"
    options += " --slurm-status-command squeue --default-resources slurm_partition=batch"
    command = [sys.executable, "-m", "snakemake", *options.split(), *QUICK, "--latency-wait", "3"]
    with (folder / "said").open("w") as said:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **cluster.env},
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=HANG_SECONDS,
            check=False,
        ).returncode


def test_each_task_of_an_array_asks_and_answers_for_itself(cluster, tmp_path):
    status = run(cluster, tmp_path)
    assert status == 0, (tmp_path / "said").read_text()
    runs = {i: (tmp_path / f"ran.{i}").read_text().split("\n")[:-1] for i in PIECES}
    assert sorted(len(lines) for lines in runs.values()) == [1, 1, 1, 1, 1, 2], runs  # the one that failed ran again
    assert [lines[0] for lines in runs.values() if len(lines) == 2] == ["array 2"], runs
    asked = {i: int((tmp_path / f"asked.{i}").read_text().partition("=")[2]) for i in PIECES}
    assert all((asked[i] >= 600) == (i == 6) for i in PIECES), asked


@pytest.mark.long
def test_a_study_with_more_attacks_than_jobs_at_once_comes_to_its_end(sources, tmp_path, cluster):
    many = yaml.safe_load((sources / "studies/tiny.yaml").read_text())
    many |= {"name": "many", "extends": "tiny.yaml"}
    many["evaluate"][0]["shards"] = 6  # 24 attacks
    config = sources / "studies/many.yaml"
    config.write_text(yaml.safe_dump(many))
    study = OnSlurm(StudyRun(sources, config, tmp_path), cluster.env)
    assert study.finish("--jobs", "4") == 0, study.said
    assert not re.search("^Error in rule", study.said, re.MULTILINE), study.said
    assert "Submitted array job" in study.said
    assert len(list(study.run.results.glob("attacks/**/manifest.json"))) == 24
    verified = study.run.snakemake("verify")
    assert verified.status == 0, verified.text
    wait_until_nothing_lives(cluster, tmp_path)
