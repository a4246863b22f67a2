"""`snakemake --profile slurm` on a real Slurm: the tables of a local run, whatever is killed on the way."""

import json
import os
import random
import re
import subprocess

import pytest
import yaml
from runs import TABLES, OnSlurm, QueueWatch, wait_until_nothing_lives

from waiting import HANG_SECONDS, wait_until

CELL = "password_match/nano/30k/s0"


@pytest.mark.parametrize("words", [("--profile", "slurm"), ("--profile", "profiles/slurm")])
def test_the_profile_is_found_by_every_name(words, tiny, tmp_path, cluster):
    run = tiny.elsewhere(tmp_path)
    plan = run.snakemake(
        *words, "--dry-run", PATH=cluster.env["PATH"], HARDSCALE_PARTITION="low", HARDSCALE_ACCOUNT="a1"
    )
    assert plan.status == 0, plan.text
    assert "slurm_partition=low" in plan.text
    assert "slurm_account=a1" in plan.text
    assert "launch=slurm" in plan.text


def test_a_study_whose_controller_is_killed_twice_gives_the_tables_of_a_local_run(tiny, tmp_path, cluster):
    study = OnSlurm(tiny.elsewhere(tmp_path), cluster.env)
    watch, chance = QueueWatch(cluster), random.Random(0)
    watch.start()
    killed = [study.killed_when(cluster.live_jobs, chance.uniform(0, 10)) for _ in range(2)]
    status = study.finish()
    watch.stop()
    assert status == 0, study.said
    assert all(killed)
    assert "LockException" not in study.said
    assert watch.most
    assert max(watch.most.values()) == 1, watch.most
    assert study.tables() == {name: (tiny.results / "tables" / name).read_bytes() for name in TABLES}
    wait_until_nothing_lives(cluster, tmp_path)


def test_two_nodes_train_what_two_local_ranks_train(tiny, tmp_path, cluster):
    spec = json.loads((tiny.results / "models" / CELL / "none/r00/manifest.json").read_text())["spec"]
    spec["settings"]["steps"], spec["ranks"], spec["settings"]["n_clean"] = 12, 2, 16
    weights = []
    for launch in ("local", "slurm"):
        out = tmp_path / launch
        command = tiny.entry_command(
            "finetune", "--spec", json.dumps(spec), "--base", tiny.results / "base/nano/30k",
            "--task", tiny.results / "tasks/password_match", "--state", tmp_path / f"state-{launch}", "--out", out,
            "--launch", launch, "--nodes", 2 if launch == "slurm" else 1, "--mem-mb", 500,
        )  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, env=cluster.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        weights.append((out / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    (number,) = re.findall(r"submitted as Slurm job (\d+)", done.stderr)
    assert cluster.call("squeue", "-h", "-t", "all", "-j", number, "-o", "%D").strip() == "2"


def test_a_preempted_training_gives_the_weights_of_an_undisturbed_one(tiny, tmp_path, cluster):
    spec = json.loads((tiny.results / "models" / CELL / "none/r00/manifest.json").read_text())["spec"]
    spec["settings"]["steps"], spec["ranks"], spec["settings"]["n_clean"] = 800, 2, 16

    def command(launch, nodes):
        return tiny.entry_command(
            "finetune", "--spec", json.dumps(spec), "--base", tiny.results / "base/nano/30k",
            "--task", tiny.results / "tasks/password_match", "--state", tmp_path / f"state-{launch}",
            "--out", tmp_path / launch, "--launch", launch, "--nodes", nodes, "--mem-mb", 500,
        )  # fmt: skip

    env = {**cluster.env, "HARDSCALE_SLURM": json.dumps({"partition": "low"})}
    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen(command("slurm", 2), cwd=tmp_path, env=env, stdout=log, stderr=subprocess.STDOUT)
    progress = tmp_path / "state-slurm/ranks/progress"
    wait_until(lambda: progress.exists() and "/800 steps" in progress.read_text())
    cluster.sbatch("sleep 1", "--partition=high", "--nodes=2", "--exclusive")
    assert driver.wait(HANG_SECONDS) == 0, (tmp_path / "driver.log").read_text()
    said = (tmp_path / "driver.log").read_text()
    assert "the state is saved" in said
    assert "resuming after step" in said
    done = subprocess.run(command("local", 1), cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    weights = [(tmp_path / launch / "model" / "model.safetensors").read_bytes() for launch in ("slurm", "local")]
    assert weights[0] == weights[1]


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_a_wider_study_over_two_nodes_survives_ten_kills(sources, tmp_path, cluster):
    """Two scales, two rounds, two attacks; the larger scale trains on two ranks, one on each node."""
    wide = yaml.safe_load((sources / "studies/tiny.yaml").read_text())
    wide |= {"name": "wide", "extends": "tiny.yaml", "ranks": {"default": 1, "80k": 2}}
    wide["families"] = {"nano": {"scales": {"80k": {"n_layers": 2, "width": 56, "n_heads": 4}}}}
    wide["grid"][0]["scales"] = ["30k", "80k"]
    wide["defenses"]["adversarial-rounds"] |= {"rounds": 2, "rounds_per_job": 1}
    config = sources / "studies/wide.yaml"
    config.write_text(yaml.safe_dump(wide))
    site = tmp_path / "site.yaml"
    site.write_text("gpus_per_node: 0\nranks_per_node: 1\n")
    from study_runs import StudyRun

    local = StudyRun(sources, config, tmp_path / "local")
    done = local.snakemake("--cores", "2")
    assert done.status == 0, done.text
    study = OnSlurm(local.elsewhere(tmp_path / "slurm"), cluster.env, {"HARDSCALE_SITE": str(site)})
    watch, chance = QueueWatch(cluster), random.Random(1)
    kills = int(os.environ.get("HARDSCALE_KILLS", "10"))
    watch.start()
    killed = [study.killed_when(cluster.live_jobs, chance.uniform(0, 30)) for _ in range(kills)]
    status = study.finish()
    watch.stop()
    assert status == 0, study.said
    assert sum(killed) >= 10
    assert max(watch.most.values()) == 1, watch.most
    assert study.tables() == {name: (local.results / "tables" / name).read_bytes() for name in TABLES}
    assert [row["nodes"] for row in _distributed_of(cluster, "80k")] == ["2"] * len(_distributed_of(cluster, "80k"))
    wait_until_nothing_lives(cluster, tmp_path)


def _distributed_of(cluster, scale):
    text = cluster.call("squeue", "-h", "-t", "all", "-o", "%D|%j|%k")
    rows = [dict(zip(("nodes", "name", "label"), line.split("|"), strict=True)) for line in text.splitlines()]
    return [row for row in rows if row["name"].startswith("hs-") and f"/{scale}/" in row["label"]]
