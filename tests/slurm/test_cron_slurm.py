"""Unattended reproduction with Slurm's profile: made again on nodes, equal to what is on disk, nothing left over."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from runs import QUICK, TABLES, wait_until_nothing_lives

from study_runs import call


@pytest.fixture
def cron(tiny, cluster, tmp_path):
    """``scripts/cron.sh`` as crontab calls it, on a finished and pinned study in a folder of its own."""
    run = tiny.elsewhere(tmp_path)
    shutil.copytree(tiny.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), cluster.env["PATH"]])

    def do(*words):
        command = ["/bin/sh", str(run.sources / "scripts" / "cron.sh"), *words[:1], *map(str, words[1:])]
        place = ["--study", str(run.config), "--directory", str(run.folder)]
        slurm = ["--profile", "slurm", "--", *QUICK] if words[0] != "pin" else []
        return call([*command, *place, *slurm], run.folder, "/", PATH=path, SLURM_CONF=cluster.env["SLURM_CONF"])

    assert do("pin").status == 0
    return do


def ended_jobs(cluster):
    """Names of all jobs that the cluster knows: distributed jobs are ``hs-...``, attacks ``hardscale...``."""
    return cluster.call("squeue", "-h", "-t", "all", "-o", "%A %j").splitlines()


@pytest.mark.long
@pytest.mark.parametrize("mode", [("sample", 3, "--seed", 11), ("full",)])
def test_cron_makes_the_study_again_on_the_cluster_and_finds_no_drift(mode, cron, tiny, cluster, tmp_path):
    before = set(ended_jobs(cluster))
    done = cron(*mode)
    assert done.status == 0, done.text
    assert done.text.strip().splitlines()[-1] == "exit 0: nothing drifted"
    submitted = [line.split()[1] for line in set(ended_jobs(cluster)) - before]
    assert [name for name in submitted if re.fullmatch(r"hs-[0-9a-f]{12}", name)], "training went to Slurm"
    assert [name for name in submitted if not name.startswith("hs-")], "attacks went to Slurm"
    made = sorted((tmp_path / "runs").glob("*")) if (tmp_path / "runs").exists() else []
    if mode[0] == "sample":
        assert made == [], "a sample without a finding leaves no scratch folder"
    else:
        (folder,) = made
        tables = [folder / "results" / "tiny" / "tables" / name for name in TABLES]
        assert [path.read_bytes() for path in tables] == [
            (tiny.results / "tables" / name).read_bytes() for name in TABLES
        ]
    wait_until_nothing_lives(cluster, tmp_path)
