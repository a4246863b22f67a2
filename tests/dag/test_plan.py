"""What a dry run plans: job counts, no torch, bad studies refused before anything is built."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def dry_run(*options, env=None):
    command = [sys.executable, "-X", "importtime", "-m", "snakemake", "-n", "--quiet", "rules", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def counts(done):
    text = done.stdout + done.stderr
    return {name: int(n) for name, n in re.findall(r"^([a-z_0-9]+) +(\d+)$", text, flags=re.MULTILINE)}


def test_the_default_study_has_its_jobs_and_loads_no_torch(tmp_path):
    done = dry_run("--directory", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = counts(done)
    jobs = ("finetune", "adversarial_rounds_01_03", "c_at_03", "attack")
    assert [found[job] for job in jobs] == [12, 12, 8, 83]
    assert not re.search(r"\| +(torch|transformers|datasets|deepspeed)$", done.stderr, flags=re.MULTILINE)


def test_another_study_replaces_the_default_one(tmp_path):
    done = dry_run("--directory", str(tmp_path), "--configfile", str(ROOT / "studies/qwen.yaml"))
    assert done.returncode == 0, done.stderr
    assert "nano" not in done.stdout
    assert counts(done)["finetune"] == 30


@pytest.mark.parametrize("study", ["pythia", "qwen", "chat"])
def test_the_papers_studies_stay_under_ten_thousand_jobs(study, tmp_path):
    done = dry_run("--directory", str(tmp_path), "--configfile", str(ROOT / f"studies/{study}.yaml"))
    assert done.returncode == 0, done.stderr
    found = counts(done)
    assert 100 < found["total"] < 10_000
    print(f"{study}: {found['total']} jobs")


def test_a_bad_study_is_refused_in_one_line_with_status_2(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\nextends: " + str(ROOT / "studies/tiny.yaml") + "\nfinetune: {step: 3}\n")
    done = dry_run("--directory", str(tmp_path), "--configfile", str(path))
    assert done.returncode != 0
    assert "finetune.step: unknown key" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_optimizer_that_the_clusters_gpus_can_not_run_is_refused_in_the_plan(tmp_path):
    on_slurm = ("--configfile", str(ROOT / "studies/pythia.yaml"), "--default-resources", "launch=slurm")
    done = dry_run("--directory", str(tmp_path), *on_slurm, "--config", "ranks={default: 1, 12b: 8}")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 3 and all("pythia 12b" in line and "optimizer.factored" in line for line in lines)
    assert "Traceback" not in done.stderr
