"""Reproduction unattended, on the finished tiny study: what check sees, what a sample sees, what repair removes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardscale.artifacts.manifest import MANIFEST, read_manifest
from hardscale.ops.cli import study_from_files
from hardscale.ops.sample import choose, units
from hardscale.plan.jobs import Jobs
from study_runs import StudyRun, call, copy_sources

CELL = "password_match/nano/30k/s0"
ATTACK = f"attacks/{CELL}/none/r00/gcg"
OTHER_ATTACK = f"attacks/{CELL}/none/r00/random-token"
BLOCK = f"models/{CELL}/adversarial-rounds/r01"


def cron(run, *options, **extra):
    """``scripts/cron.sh`` as crontab calls it: from somewhere else, with the interpreter on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["/bin/sh", str(run.sources / "scripts" / "cron.sh"), options[0], *map(str, options[1:])]
    command += ["--study", str(run.config), "--directory", str(run.folder)]
    return call(command, run.folder, cwd="/", PATH=path, **extra)


def last_line(done):
    return done.text.strip().splitlines()[-1]


def contents(folder):
    """Every file below a folder with its bytes and its age, links as links."""
    paths = [path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.lstat().st_mtime_ns) for path in paths}


@pytest.fixture(scope="module")
def pinned(tiny, tmp_path_factory):
    """The tiny study in a folder of its own, pinned."""
    folder = tmp_path_factory.mktemp("pinned")
    shutil.copytree(tiny.folder, folder, dirs_exist_ok=True, symlinks=True)
    run = tiny.elsewhere(folder)
    done = cron(run, "pin")
    assert done.status == 0, done.text
    assert "pinned 8 artifacts and 4 tables" in done.text
    return run


@pytest.fixture
def copy(pinned, tmp_path):
    """The same to be damaged."""
    shutil.copytree(pinned.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    return pinned.elsewhere(tmp_path)


def record(run):
    path = run.results / "drift" / "drift.parquet"
    return pq.read_table(path).to_pylist() if path.exists() else []


def seed_for(run, monkeypatch, *wanted):
    """A seed that draws jobs with these outputs."""
    monkeypatch.chdir(run.folder)
    all_units = list(units(Jobs(study_from_files([run.config]))))
    for seed in range(200):
        drawn = [unit.outputs[-1].as_posix() for unit in choose(all_units, len(wanted), seed)]
        if sorted(drawn) == sorted(f"results/tiny/{name}" for name in wanted):
            return seed
    raise AssertionError(f"no seed draws {wanted}")


# --- check ----------------------------------------------------------------------------------------------------------


def test_what_every_job_reads_is_what_its_manifest_says(pinned, monkeypatch):
    """The inputs of a job, as they are given to it again, are those that the original was made from."""
    monkeypatch.chdir(pinned.folder)
    found = list(units(Jobs(study_from_files([pinned.config]))))
    assert len(found) == 8
    for unit in found:
        digests = set(read_manifest(unit.outputs[0])["inputs"].values())
        assert digests == {read_manifest(folder)["self"] for folder in unit.inputs}, unit


def test_check_of_finished_results_passes_runs_nothing_and_changes_nothing(copy):
    before = contents(copy.folder)
    done = cron(copy, "check")
    assert done.status == 0, done.text
    assert last_line(done) == "exit 0: nothing drifted"
    assert "same    8 artifacts" in done.text
    assert "changed since the pin" in done.text
    after = contents(copy.folder)
    written = {name for name in after if after[name] != before.get(name)}
    assert written == {"results/tiny/drift/drift.parquet", "results/tiny/drift/drift.png"}
    assert before.keys() <= after.keys()
    assert {row["status"] for row in record(copy)} == {"same"}
    planned = copy.snakemake("--dry-run")
    assert "Nothing to be done" in planned.text, planned.text


def test_a_tampered_table_is_drift_with_its_row(copy):
    path = copy.results / "tables" / "runs.parquet"
    table = pq.read_table(path)
    asr = table.column("asr").to_pylist()
    edited = [*asr[:5], asr[5] + 0.125, *asr[6:]]
    column = pa.array(edited, pa.float64())
    pq.write_table(table.set_column(table.column_names.index("asr"), "asr", column), path)
    done = cron(copy, "check")
    assert done.status == 3, done.text
    (line,) = [line for line in done.text.splitlines() if line.startswith("  DRIFT")]
    for word in ("tables/runs.parquet", "1 row(s)", "iteration=5", "in asr by 0.125"):
        assert word in line, line
    assert last_line(done).startswith("exit 3: drift")
    assert [row["max_difference"] for row in record(copy) if row["status"] == "drift"] == [0.125]


def test_without_a_pin_check_says_so(tiny):
    done = cron(tiny, "check")
    done.refused("reference.json", "no pinned reference", "cron.py pin")
    assert done.status == 2
    assert not (tiny.results / "drift").exists()


def test_a_study_that_is_refused_has_the_status_of_usage(copy):
    done = call(copy.entry_command("cron", "check", "--study", "none.yaml"), copy.folder)
    assert done.status == 2
    done.refused("none.yaml")


def test_a_second_pin_needs_replace(copy):
    before = (copy.results / "reference.json").read_bytes()
    cron(copy, "pin").refused("--replace")
    assert (copy.results / "reference.json").read_bytes() == before
    assert cron(copy, "pin", "--replace").status == 0


# --- sample ---------------------------------------------------------------------------------------------------------


def test_a_changed_attack_constant_is_invisible_to_check_and_caught_by_a_sample(copy, tmp_path_factory, monkeypatch):
    changed = StudyRun(copy_sources(tmp_path_factory.mktemp("changed")), copy.config, copy.folder)
    path = changed.sources / "scripts" / "hardscale" / "attacks" / "gcg.py"
    text = path.read_text()
    assert text.count("settings.n_candidates, state.rng") == 1
    path.write_text(text.replace("settings.n_candidates, state.rng", "settings.n_candidates - 1, state.rng"))

    checked = cron(changed, "check")
    assert checked.status == 0, checked.text
    assert re.search(r"^  code \w{16} -> \w{16}$", checked.text, re.MULTILINE), checked.text

    before = contents(copy.results)
    seed = seed_for(copy, monkeypatch, BLOCK, ATTACK, OTHER_ATTACK)
    done = cron(changed, "sample", 3, "--seed", seed, "--cores", "1")
    assert done.status == 3, done.text
    assert f"seed {seed}" in done.text
    named = {what: status for status, what in re.findall(r"^  (same|DRIFT) +([^ :]+)", done.text, re.MULTILINE)}
    # The block is trained against GCG; RandomToken is another module, its bytes are those of the original.
    assert named == {BLOCK: "DRIFT", ATTACK: "DRIFT", OTHER_ATTACK: "same"}
    (line,) = [line for line in done.text.splitlines() if line.startswith(f"  DRIFT   {ATTACK}: attack.parquet: ")]
    assert re.search(r"\d+ row\(s\) in adversarial_text, .*losses by \d", line), line
    assert len(done.text.splitlines()) < 40
    # What was made again stays to be looked at; the originals are as they were.
    (made,) = (copy.folder / "runs").glob(f"*/attack/results/tiny/{ATTACK}/{MANIFEST}")
    assert read_manifest(made.parent)["files"] != read_manifest(copy.results / ATTACK)["files"]
    after = contents(copy.results)
    untouched = {name for name in before if not name.startswith("drift/")}
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    rows = [row for row in record(copy) if row["mode"] == "sample"]
    assert {row["what"]: row["status"] for row in rows} == {BLOCK: "drift", ATTACK: "drift", OTHER_ATTACK: "same"}
    assert all(row["max_difference"] > 0 for row in rows if row["status"] == "drift")
    assert all(any(change.startswith("code ") for change in row["changes"]) for row in rows)


# --- full -----------------------------------------------------------------------------------------------------------


def test_full_compares_the_tables_of_its_own_folder(pinned, copy):
    """A whole run that is already there: Snakemake finds nothing to do, and its tables are those of the pin."""
    again = copy.folder / "runs" / "again"
    shutil.copytree(pinned.folder, again, symlinks=True)
    options = ["full", "--into", again, "--cores", "1"]
    done = cron(copy, *options)
    assert done.status == 0, done.text
    assert [row["what"] for row in record(copy)] == [f"tables/{n}.parquet" for n in ("claims", "cost", "fits", "runs")]
    path = again / "results" / "tiny" / "tables" / "claims.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    done = cron(copy, *options)
    assert done.status == 3, done.text
    (line,) = [line for line in done.text.splitlines() if line.startswith("  DRIFT")]
    assert "tables/claims.parquet: 1 row(s) at " in line
    assert "(gone)" in line


# --- verify ---------------------------------------------------------------------------------------------------------


def test_verify_names_what_to_rerun_and_repair_removes_exactly_that(copy):
    rows = copy.results / ATTACK / "attack.parquet"
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    half = copy.results / OTHER_ATTACK
    (half / MANIFEST).unlink()
    before = contents(copy.results)

    named = copy.entry("verify", "--root", "results/tiny", "--configfile", copy.config)
    assert named.status == 1
    named.refused("results/tiny", "2 of 8 artifacts are damaged")
    (command,) = [line for line in named.text.splitlines() if "snakemake --cores" in line]
    for folder in (ATTACK, OTHER_ATTACK):
        assert f"results/tiny/{folder}/{MANIFEST}" in command
    assert f"--configfile {copy.config}" in command
    assert contents(copy.results) == before

    repaired = copy.entry("verify", "--root", "results/tiny", "--repair")
    assert repaired.status == 0, repaired.text
    gone = before.keys() - contents(copy.results).keys()
    assert {name.rpartition("/")[0] for name in gone} == {ATTACK, OTHER_ATTACK}
    assert {name: value for name, value in before.items() if name not in gone} == contents(copy.results)
    planned = copy.snakemake("--dry-run").text
    jobs = set(re.findall(r"^Job \d+: (attack.*|finetune.*|adversarial.*|prepare.*)$", planned, flags=re.MULTILINE))
    assert jobs == {f"attack {CELL}/none round 00 with {name}" for name in ("gcg", "random-token")}


# --- together with others -------------------------------------------------------------------------------------------


def test_another_controller_is_left_alone_and_named(copy):
    rows = copy.results / ATTACK / "attack.parquet"
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    code = "import sys; from hardscale.ops.controller import claim; from pathlib import Path\n"
    code += "claim(Path('.snakemake'), []); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=copy.folder,
        env={**os.environ, "PYTHONPATH": str(copy.sources / "scripts")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        for done in (
            cron(copy, "check"),
            cron(copy, "sample", 2, "--cores", "1"),
            cron(copy, "pin", "--replace"),
            copy.entry("verify", "--root", "results/tiny", "--repair"),
        ):
            assert done.status == 75, done.text
            assert f"pid {holder.pid}" in done.refused("another controller works here")
        assert record(copy) == []
        assert rows.exists()
    finally:
        holder.communicate()
    done = cron(copy, "check")
    assert done.status == 1, done.text  # now the damage is seen
    assert f"DAMAGED {ATTACK}" in done.text


def test_full_passes_another_controllers_status_on(copy):
    """The folder of a full run has a controller of its own."""
    reference = copy.results / "reference.json"
    code = "import sys; from hardscale.ops.controller import claim; from pathlib import Path\n"
    code += "claim(Path('runs/x/.snakemake'), []); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=copy.folder,
        env={**os.environ, "PYTHONPATH": str(copy.sources / "scripts")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        done = cron(copy, "full", "--into", copy.folder / "runs" / "x", "--reference", reference, "--cores", "1")
    finally:
        holder.communicate()
    assert done.status == 75, done.text
    assert f"pid {holder.pid}" in done.text
    assert not (copy.folder / "runs/x/results/tiny/tables").exists()
    assert record(copy) == []
