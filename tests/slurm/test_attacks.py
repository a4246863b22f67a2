"""Attacks as Slurm jobs of their own: each asks for its own memory and answers for itself, none is forgotten."""

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

PROFILE = Path(__file__).parents[2] / "profiles" / "slurm"
PIECES = range(1, 7)
#: The first outlasts the third; the second outlasts the first, and fails, once. 6 needs more memory.
SNAKEFILE = """
rule all:
    input:
        expand("out/{i}", i=range(1, 7)),


rule piece:
    output:
        "out/{i}",
    resources:
        mem_mb=lambda wildcards: 600 if wildcards.i == "6" else 200,
    shell:
        "echo $SLURM_JOB_ID array $(printenv SLURM_ARRAY_TASK_ID || true) >> ran.{wildcards.i};"
        " scontrol show job -o $SLURM_JOB_ID | grep -o 'MinMemoryNode=[0-9]*' | sort -u > asked.{wildcards.i};"
        ' case "{wildcards.i}" in'
        " 1) if mkdir slow; then until [ -e ended.3 ]; do sleep 1; done; sleep 8; fi ;;"
        " 2) if mkdir failing; then until [ -e ended.1 ]; do sleep 1; done; sleep 5; exit 3; fi ;;"
        " esac; touch {output} ended.{wildcards.i}"
"""


def run(cluster, folder):
    """Fewer jobs at once than are ready, with the profile's settings."""
    (folder / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--profile", str(PROFILE), "--jobs", "4", *QUICK]
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


def submitted(said):
    """Numbers of the executor's jobs as Snakemake tells them."""
    return re.findall(r"has been submitted with SLURM jobid (\S+)", said)


def test_each_job_asks_and_answers_for_itself(cluster, tmp_path):
    status = run(cluster, tmp_path)
    said = (tmp_path / "said").read_text()
    assert status == 0, said
    runs = {i: (tmp_path / f"ran.{i}").read_text().split("\n")[:-1] for i in PIECES}
    assert {i: len(lines) for i, lines in runs.items()} == {1: 1, 2: 2, 3: 1, 4: 1, 5: 1, 6: 1}, said
    assert sorted(line for lines in runs.values() for line in lines) == sorted(
        f"{number} array" for number in submitted(said)
    ), "each job ran once, and none as a task of an array"
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
    numbers = submitted(study.said)
    assert len(numbers) == 24, "none is submitted twice"
    assert all(number.isdigit() for number in numbers), numbers
    assert len(list(study.run.results.glob("attacks/**/manifest.json"))) == 24
    verified = study.run.snakemake("verify")
    assert verified.status == 0, verified.text
    wait_until_nothing_lives(cluster, tmp_path)
