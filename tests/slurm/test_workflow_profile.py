"""The profile as a workflow profile, in a clone as a user makes it."""

import shutil
import subprocess
import sys

import pytest
from runs import QUICK, wait_until_nothing_lives

from study_runs import ROOT, call

TARGET = "results/tiny/attacks/password_match/nano/30k/s0/none/r00/random-token/manifest.json"
NAMES = [("--workflow-profile", "slurm"), ("--profile", "slurm", "--workflow-profile", "slurm")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What git has of this repository, without what lies beside it here."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing to clone")
    place = tmp_path_factory.mktemp("clone") / "hardscale"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", f"file://{ROOT}", str(place)], check=True)
    return place


def snakemake(clone, cluster, *options):
    command = [sys.executable, "-m", "snakemake", "--configfile", "studies/tiny.yaml", *options]
    return call(command, clone, PATH=cluster.env["PATH"], SLURM_CONF=cluster.env["SLURM_CONF"])


@pytest.mark.long
@pytest.mark.parametrize("names", NAMES, ids=["alone", "beside"])
def test_a_dry_run_in_a_fresh_clone_plans_for_slurm(names, clone, cluster):
    plan = snakemake(clone, cluster, *names, "--dry-run")
    assert plan.status == 0, plan.text
    assert "launch=slurm" in plan.text
    assert "slurm_partition=batch" in plan.text
    assert not (clone / "results" / "tiny").exists()


@pytest.mark.long
def test_a_short_run_in_a_fresh_clone_goes_to_slurm(clone, cluster):
    before = set(cluster.squeue())
    done = snakemake(clone, cluster, "--workflow-profile", "slurm", *QUICK, TARGET)
    assert done.status == 0, done.text
    assert (clone / TARGET).exists()
    assert len(set(cluster.squeue()) - before) == 2, "a distributed job and an attack"
    status = subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == "", "a run leaves nothing that git would take"
    wait_until_nothing_lives(cluster, clone)
