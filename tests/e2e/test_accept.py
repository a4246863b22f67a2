"""A new version of the code takes over what an earlier one published, on the finished tiny study."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from study_runs import StudyRun, call, copy_sources

CELL = "password_match/nano/30k/s0"
GCG = {f"attack {CELL}/{victim} with gcg" for victim in ("none round 00", "adversarial-rounds round 01")}
RANDOM = {name.replace("gcg", "random-token") for name in GCG}
ROUNDS = {f"adversarial rounds 1 to 1 of {CELL}/adversarial-rounds"}
HARMLESS = "\n\n_UNUSED = 0\n"
OTHER_NUMBER = ("settings.n_candidates, state.rng", "settings.n_candidates - 1, state.rng")


@pytest.fixture
def run(tiny, tmp_path):
    """The finished tiny study and a copy of the sources that made it, both to be changed."""
    folder = tmp_path / "run"
    shutil.copytree(tiny.folder, folder, symlinks=True)
    sources = copy_sources(tmp_path)
    return StudyRun(sources, sources / "studies" / "tiny.yaml", folder)


def edit(path, before, after):
    text = path.read_text()
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, after))


def gcg(run):
    return run.sources / "scripts" / "hardscale" / "attacks" / "gcg.py"


def add_to_gcg(run, text):
    path = gcg(run)
    path.write_text(path.read_text() + text)


def options(run):
    return ["--study", run.config, "--directory", run.folder, "--cores", "1", "--count", "2"]


def accept(run):
    return run.entry("accept", *options(run))


def planned(run):
    """Messages of the jobs that make artifacts; how many others."""
    text = run.snakemake("--dry-run").text
    messages = set(re.findall(r"^Job \d+: (.*?)(?: *$)", text, flags=re.MULTILINE))
    return {message for message in messages if re.match("attack|adversarial|finetune|prepare", message)}


def nothing_planned(run):
    return "Nothing to be done" in run.snakemake("--dry-run").text


def lines(run):
    path = run.results / "accepted.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def contents(run):
    """Every published file and every record of Snakemake's with bytes and age."""
    folders = [run.results / name for name in ("attacks", "models", "base", "tasks", "tables", "figures")]
    paths = [path for folder in (*folders, run.folder / ".snakemake" / "metadata") for path in folder.rglob("*")]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths if path.is_file()}


def test_there_is_nothing_to_accept_where_no_digest_changed(run):
    add_to_gcg(run, "# a comment\n")
    before = contents(run)
    done = accept(run)
    assert done.status == 0, done.text
    assert "nothing to accept" in done.text
    assert contents(run) == before
    assert lines(run) == []


def test_a_killed_acceptance_is_resumed_and_then_nothing_is_planned(run):
    add_to_gcg(run, HARMLESS)
    assert planned(run) >= GCG | ROUNDS
    before = contents(run)
    code = f"""
import os, runpy, signal, sys
sys.path.insert(0, {str(run.sources / "scripts")!r})
import hardscale.ops.accept as module
whole = module.rewrite
def first(*args):
    whole(*args)
    os.kill(os.getpid(), signal.SIGKILL)
module.rewrite = first
sys.argv = ["accept.py", *{[*map(str, options(run))]!r}]
runpy.run_path({str(run.sources / "scripts" / "accept.py")!r}, run_name="__main__")
"""
    killed = call([sys.executable, "-c", code], run.folder)
    assert killed.status == -9, killed.text
    assert [line["state"] for line in lines(run)] == ["begun"]
    # One record is written, whole; the jobs of the others are planned as before.
    changed = {path for path, value in contents(run).items() if value != before.get(path)}
    assert len(changed) == 1
    assert len((GCG | ROUNDS) - planned(run)) <= 1  # none fewer where it follows a job that is still planned

    done = accept(run)
    assert done.status == 0, done.text
    assert "resumed" in done.text
    assert "2 jobs accepted" in done.text
    assert nothing_planned(run)
    begun, again, end = lines(run)
    assert (again["state"], end["state"]) == ("begun", "done")
    assert begun["sample"] == end["sample"]
    assert {name.partition("/")[0] for name in end["sample"]} == {"models", "attacks"}
    assert {kind["rule"]: kind["jobs"] for kind in begun["kinds"]} == {"attack": 2, "adversarial_rounds": 1}
    assert all(kind["before"] != kind["after"] for kind in begun["kinds"])
    # Artifacts, tables and figures are what they were, their age too.
    changed = {path for path, value in contents(run).items() if value != before.get(path)}
    assert len(changed) == 3
    assert all(".snakemake" in path.parts for path in changed)
    assert not (run.folder / "runs").exists()
    assert "nothing to accept" in accept(run).text


def test_another_number_is_refused_and_nothing_touched(run):
    edit(gcg(run), *OTHER_NUMBER)
    before, wanted = contents(run), planned(run)
    assert wanted >= GCG | ROUNDS
    done = accept(run)
    assert done.status == 3, done.text
    assert re.search(r"^  DRIFT +attacks/\S+/gcg: attack.parquet: \d+ row", done.text, re.MULTILINE), done.text
    assert f"models/{CELL}/adversarial-rounds/r01" in done.text
    assert len(done.text.splitlines()) < 50
    assert contents(run) == before
    assert lines(run) == []
    assert planned(run) == wanted


def test_another_setting_and_a_damaged_artifact_are_not_taken_over(run):
    add_to_gcg(run, HARMLESS)
    edit(run.config, "random-token: {n_iterations: 24}", "random-token: {n_iterations: 25}")
    broken = f"attacks/{CELL}/adversarial-rounds/r01/gcg"
    rows = run.results / broken / "attack.parquet"
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    done = accept(run)
    assert done.status == 0, done.text
    assert "2 jobs accepted" in done.text
    left = {entry["what"]: entry["why"] for entry in lines(run)[-1]["left"]}
    victims = "none/r00", "adversarial-rounds/r01"
    settings = {f"attacks/{CELL}/{victim}/random-token" for victim in victims}
    assert left.keys() == {broken, *settings}
    assert all("settings.n_iterations 24 -> 25" in left[name] for name in settings)
    assert "bytes differ" in left[broken]
    assert all(name in done.text for name in left)
    assert planned(run) == RANDOM | {name for name in GCG if "round 01" in name}


def test_a_living_controller_is_left_alone(run):
    add_to_gcg(run, HARMLESS)
    code = "import sys; from hardscale.ops.controller import claim; from pathlib import Path\n"
    code += "claim(Path('.snakemake'), []); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=run.folder,
        env={**os.environ, "PYTHONPATH": str(run.sources / "scripts")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    before = contents(run)
    try:
        assert holder.stdout.readline() == b"held\n"
        done = accept(run)
    finally:
        holder.communicate()
    assert done.status == 75, done.text
    assert f"pid {holder.pid}" in done.text
    assert contents(run) == before


def test_what_cannot_be_run_has_the_status_of_usage(sources, tmp_path):
    run = StudyRun(sources, sources / "studies" / "tiny.yaml", tmp_path)
    nowhere = run.entry("accept", "--study", run.config, "--directory", tmp_path / "none")
    nowhere.refused("--directory", "no such folder")
    nothing = accept(run)
    nothing.refused("results/tiny", "no results to accept")
    run.results.mkdir(parents=True)
    few = run.entry("accept", *options(run)[:-1], "1")
    few.refused("--count 1", "at least 2")
    assert [done.status for done in (nowhere, nothing, few)] == [2, 2, 2]
    assert not (tmp_path / ".snakemake").exists()
