"""The preflight on a real cluster: what is right passes, what is wrong is one line that names the key to set."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from cluster import MARK

from hardscale.ops import slurm_trial
from hardscale.ops.profile import read_profile
from hardscale.ops.slurm_check import CheckedSetup, controller, partitions
from hardscale.settings.study import parse_study, read_yaml
from waiting import HANG_SECONDS, wait_until

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "profiles" / "slurm"
STUDY = ROOT / "studies" / "tiny.yaml"


@dataclass
class Answer:
    status: int
    text: str

    def lines(self, level):
        return [line for line in self.text.splitlines() if line.startswith(level)]

    def failed(self, topic, *words):
        """The only failures are of this topic, and the first line holds all words."""
        assert self.status == 1, self.text
        found = self.lines("FAIL")
        assert found, self.text
        assert all(line.startswith(f"FAIL  {topic}") for line in found), self.text
        assert [word for word in words if word not in found[0]] == [], found[0]
        assert re.search(r"to fix before a study can run here$", self.text.strip()), self.text


def check(cluster, folder, *options, profile=PROFILE, **variables):
    kept = {name: value for name, value in cluster.env.items() if name == MARK or not name.startswith("HARDSCALE_")}
    command = [sys.executable, str(ROOT / "scripts" / "slurm_check.py"), "--study", str(STUDY)]
    done = subprocess.run(
        [*command, "--profile", str(profile), "--directory", str(folder), *options],
        env={**kept, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout)


def changed_profile(folder, old, new):
    text = (PROFILE / "config.yaml").read_text()
    assert old in text
    (folder / "config.yaml").write_text(text.replace(old, new))
    return folder


def test_a_good_profile_passes_with_a_tiny_job_on_a_node(cluster, tmp_path):
    answer = check(cluster, tmp_path)
    assert answer.status == 0, answer.text
    assert answer.lines("FAIL") == []
    topics = [line.split()[1].rstrip(":") for line in answer.lines("ok")]
    assert topics == ["controller", "partition", "finetune", "adversarial_rounds_01_01", "attack", "status", "requeue",
                      "disk", "node"], answer.text  # fmt: skip
    assert "127.0.0." in answer.lines("ok")[-1]
    assert "slurm-check: ready" in answer.text
    assert not list(tmp_path.rglob("slurm-check")), "the tiny job left files"
    wait_until(lambda: not cluster.live_jobs(), "the tiny job's end")  # it has answered, and now ends


def test_memory_that_only_a_retry_would_lack_is_a_warning(cluster, tmp_path):
    answer = check(cluster, tmp_path, "--no-probe")
    assert answer.status == 0, answer.text
    assert all("at attempt 3" in line and "mem_mb" in line for line in answer.lines("warn")), answer.text
    assert len(answer.lines("warn")) == 3, answer.text


def test_a_partition_that_is_not_there(cluster, tmp_path):
    answer = check(cluster, tmp_path, "--no-probe", HARDSCALE_PARTITION="gpu")
    answer.failed("partition", "'gpu'", "batch, low, high", "HARDSCALE_PARTITION", "slurm_partition", str(PROFILE))


def test_a_distributed_job_partition_that_is_not_there(cluster, tmp_path):
    answer = check(cluster, tmp_path, "--no-probe", HARDSCALE_DISTRIBUTED_PARTITION="gpu")
    answer.failed("partition", "'gpu'", "HARDSCALE_DISTRIBUTED_PARTITION", "distributed_partition")


def test_a_partition_that_is_down(cluster, tmp_path):
    cluster.call("scontrol", "create", "partitionname=shut", "nodes=ALL", "state=down")
    try:
        answer = check(cluster, tmp_path, "--no-probe", HARDSCALE_PARTITION="shut")
    finally:
        cluster.call("scontrol", "delete", "partitionname=shut")
    answer.failed("partition", "shut is DOWN", "HARDSCALE_PARTITION")


def test_a_partition_with_too_short_a_limit(cluster, tmp_path):
    cluster.call("scontrol", "create", "partitionname=short", "nodes=ALL", "maxtime=20")
    try:
        answer = check(cluster, tmp_path, "--no-probe", HARDSCALE_PARTITION="short")
    finally:
        cluster.call("scontrol", "delete", "partitionname=short")
    assert answer.status == 1
    assert len(answer.lines("FAIL")) == 3, answer.text
    for line in answer.lines("FAIL"):
        assert "asks for 60 min, the limit of short is 20; set runtime: 20" in line


def test_more_memory_than_any_node_has_is_explained_and_sbatch_quoted(cluster, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("corrections: [{where: {phase: [attack]}, set: {mem_mb: 900000}}]\n")
    answer = check(cluster, tmp_path, "--no-probe", HARDSCALE_SITE=str(site))
    answer.failed("attack", "900000 MB", "4000", "set mem_mb", "HARDSCALE_SITE", "sbatch: 'Requested node")


def test_more_gpus_than_the_nodes_have(cluster, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("gpu_from_parameters: 0\n")
    answer = check(cluster, tmp_path, "--no-probe", HARDSCALE_SITE=str(site))
    assert answer.status == 1
    assert all("1 GPUs on a node, the largest of batch has 0; set gpus_per_node" in f for f in answer.lines("FAIL"))
    assert len(answer.lines("FAIL")) == 3, answer.text


def test_polling_by_sacct_without_accounting(cluster, tmp_path):
    profile = changed_profile(tmp_path, "slurm-status-command: squeue", "slurm-status-command: sacct")
    answer = check(cluster, tmp_path, "--no-probe", profile=profile)
    answer.failed("status", "slurm-status-command", "set it to squeue")


def test_polling_by_squeue_that_forgets_too_soon(cluster, tmp_path):
    key = "slurm-init-seconds-before-status-checks"
    profile = changed_profile(tmp_path, f"{key}: 20", f"{key}: 300")
    answer = check(cluster, tmp_path, "--no-probe", profile=profile)
    answer.failed("status", "forgets ended jobs after 600 s", f"set {key}: 200")


def test_an_account_that_one_does_not_have(accounting_cluster, tmp_path):
    answer = check(accounting_cluster, tmp_path, "--no-probe", HARDSCALE_ACCOUNT="nobody")
    assert len(answer.lines("FAIL")) == 3, answer.text
    for line in answer.lines("FAIL"):
        assert "sbatch: 'Invalid account" in line
        assert "set HARDSCALE_ACCOUNT (slurm_account in" in line
        assert re.search(r"to one of yours: test(, root)?$", line)


def test_a_node_without_the_data_and_a_torch_without_cuda(accounting_cluster, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("gpu_from_parameters: 0\n")
    answer = check(
        accounting_cluster, tmp_path, HARDSCALE_ACCOUNT="test", HARDSCALE_SITE=str(site), HARDSCALE_DATA="/no/data"
    )
    assert "sacct answers" in next(line for line in answer.lines("ok") if " status:" in line)
    assert f"HARDSCALE_SITE: {site} is there" in answer.text
    expected = [
        "GPU that torch [^ ]+ does not see; install a CUDA build",
        "HARDSCALE_DATA: /no/data is not there on 127",
    ]
    assert len(answer.lines("FAIL")) == 2, answer.text
    for line, words in zip(answer.lines("FAIL"), expected, strict=True):
        assert line.startswith("FAIL  node of batch: ")
        assert re.search(words, line)


def test_without_slurm_one_line_says_so(tmp_path):
    (tmp_path / "bin").mkdir()
    nowhere = SimpleNamespace(env={**os.environ, "PATH": str(tmp_path / "bin")})
    answer = check(nowhere, tmp_path)
    answer.failed("commands", "sbatch", "not on PATH", "login node")
    assert len(answer.text.splitlines()) == 2, answer.text


def test_a_profile_that_is_not_there_is_one_line(cluster, tmp_path):
    answer = check(cluster, tmp_path, profile=tmp_path)
    assert answer.status == 1
    assert re.fullmatch(r"error: .*no profile here.*--profile profiles/slurm\n", answer.text), answer.text


@pytest.fixture
def here(cluster, tmp_path, monkeypatch):
    """The situation of a study with one kind of job, asked about from this process."""
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    for name in ("HARDSCALE_PARTITION", "HARDSCALE_DISTRIBUTED_PARTITION", "HARDSCALE_ACCOUNT", "HARDSCALE_SITE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    now = CheckedSetup(parse_study(read_yaml(STUDY), str(STUDY)), read_profile(PROFILE))
    assert [finding.level for finding in [*controller(now), *partitions(now)]] == ["ok", "ok"]
    return now


def test_a_python_that_nodes_do_not_see(here, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/home/head/venv/bin/python")
    (found,) = slurm_trial.probe(here, wait=HANG_SECONDS)
    assert found.level == "FAIL"
    assert "/home/head/venv/bin/python" in found.text
    assert "must be on a file system that nodes see" in found.text


def test_a_folder_that_nodes_do_not_see(here, monkeypatch):
    monkeypatch.setattr(slurm_trial, "_LATE_SECONDS", 0.5)
    monkeypatch.setattr(slurm_trial._Trial, "_command", lambda self: "true")
    (found,) = slurm_trial.probe(here, wait=HANG_SECONDS)
    assert found.level == "FAIL"
    assert re.search(r"does not see .* \(job \d+ ended as COMPLETED\)", found.text), found.text


def test_a_probe_that_waits_too_long_says_why_and_leaves_the_queue(here, cluster):
    blocker = cluster.sbatch("sleep 3600", "--nodes=2", "--exclusive")
    cluster.wait_for_state(blocker, "RUNNING")
    try:
        (found,) = slurm_trial.probe(here, wait=1)
    finally:
        cluster.call("scancel", str(blocker))
        cluster.wait_for_state(blocker, "CANCELLED")
    assert found.level == "warn"
    assert re.search(r"still waits after 1 s \((Resources|Priority|None)\)", found.text), found.text
    wait_until(lambda: not cluster.live_jobs(), "the end of both jobs")
