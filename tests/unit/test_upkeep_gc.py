"""What gc removes, and that nothing that an unfinished job needs is among it."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from upkeep_kit import FakeSlurm, jobs_of, make, mark, note, publish_one, quick_publishing, steps_of, tree, write

from hardscale.artifacts.locks import Owner, process_start
from hardscale.artifacts.manifest import MANIFEST, verify
from hardscale.artifacts.publish import publishing
from hardscale.ops.disk import freed
from hardscale.ops.garbage import garbage, prune_weights, refusal, remove
from hardscale.ops.job_state import survey
from hardscale.plan.steps import output_folder

ROOT = Path(__file__).parents[2]
CELL = "password_match/nano/a/s0"
FINETUNE = f"finetune {CELL}"
BLOCK = f"adversarial_rounds_01_02 {CELL}/adv"
HOURS = 2 * 3600.0


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    quick_publishing(monkeypatch)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def jobs(slurm):
    return jobs_of()


@pytest.fixture
def steps(jobs):
    return steps_of(jobs)


def kept(jobs):
    return {str(folder) for folder in jobs.grid.model_folders()}


def listed(jobs, **options):
    return {(one.kind, str(one.path)) for one in garbage(survey(jobs), **options)}


def collect(jobs, **options):
    """gc --yes, without its process: what went, by path."""
    seen = survey(jobs)
    assert not refusal(seen)
    done = list(remove(garbage(seen, **options)))
    assert [why for _, why in done if why] == []
    return {str(one.path) for one, _ in done}


def do_all(jobs, steps):
    for step in steps.values():
        make(step, kept(jobs))


def test_there_is_nothing_to_remove_after_an_ordinary_run(jobs, steps):
    do_all(jobs, steps)
    assert listed(jobs, orphans=True) == set()


def test_drafts_of_killed_publishers_go_an_hour_later(jobs, steps):
    make(steps[FINETUNE])
    folder = Path(output_folder(steps[FINETUNE].outputs[0]))
    old = write(folder.parent / ".r00.tmp-0123456789ab/model/model.safetensors", "w" * 9000, age=HOURS).parents[1]
    os.utime(old, (time.time() - HOURS,) * 2)
    young = write(folder.parent / ".r00.tmp-ba9876543210/a", "w", age=HOURS).parent
    write(young / "model/b", "still growing")
    assert listed(jobs) == {("draft", str(old))}
    assert freed([old])[old] >= 9000
    collect(jobs)
    assert not old.exists()
    assert young.exists()
    assert (folder / MANIFEST).exists()


def test_a_draft_of_a_job_that_lives_stays(slurm, jobs, steps):
    attack = steps[f"attack {CELL}/none/00/gcg"]
    folder = Path(output_folder(attack.outputs[0]))
    draft = write(folder.parent / ".gcg.tmp-0123456789ab/a", "w", age=HOURS).parent
    mark(attack, "12")
    slurm.says((12, "RUNNING"))
    assert listed(jobs) == set()
    slurm.says((12, "COMPLETED"))
    assert listed(jobs) == {("draft", str(draft))}


def test_drafts_and_state_stay_while_a_job_of_the_folder_is_not_known(slurm, jobs, steps):
    make(steps[FINETUNE])
    write(f"{steps[FINETUNE].state}/checkpoints/step1/a", "w")
    write("results/s/attacks/.x.tmp-0123456789ab/a", "w", age=HOURS)
    assert {kind for kind, _ in listed(jobs)} == {"draft", "state"}
    slurm.says((99, "RUNNING", "something else", "n1"))
    assert listed(jobs) == set()
    slurm.says((99, "RUNNING", "something else", "n1", "", "/another/place"))
    assert len(listed(jobs)) == 2


def test_state_goes_with_the_job_and_its_record_stays(jobs, steps):
    step = steps[BLOCK]
    for name in ("checkpoints/step1/a", "finished/round0001/b", "ranks/submitit/c", "published.json"):
        write(f"{step.state}/{name}", "w")
    assert listed(jobs) == set()
    make(step, kept(jobs))
    mark(step)
    assert listed(jobs) == set()  # Snakemake will make it again, and it resumes from its state
    for path in Path(".snakemake/incomplete").iterdir():
        path.unlink()
    assert collect(jobs) == {f"{step.state}/{name}" for name in ("checkpoints", "finished", "ranks")}
    assert [path.name for path in Path(step.state).iterdir()] == ["published.json"]


def test_state_that_a_driver_or_a_distributed_job_holds_stays(slurm, jobs, steps):
    step = steps[FINETUNE]
    make(step)
    write(f"{step.state}/checkpoints/a", "w")
    lock = write(f"{step.state}/driver.lock", "")
    assert len(listed(jobs)) == 1
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert listed(jobs) == set()
    seen = survey(jobs)
    items = garbage(seen)
    with lock.open("a") as file:  # a driver that starts between the look and the removal
        fcntl.flock(file, fcntl.LOCK_EX)
        assert [why for _, why in remove(items)] == ["a job works in it"]
    assert Path(step.state, "checkpoints/a").exists()
    note(step, 5)
    slurm.says((5, "RUNNING", "", "n1", "", "/elsewhere"))
    assert listed(jobs) == set()
    slurm.fails()
    assert listed(jobs) == set()
    assert "does not answer" in refusal(survey(jobs))


def test_weights_that_the_study_does_not_keep_go_and_the_record_stays_valid(jobs, steps):
    for step in steps.values():
        make(step)  # with the weights of every round
    unkept = [f"results/s/models/password_match/nano/{s}/s0/adv/r{n:02d}" for s in "ab" for n in (1, 3)]
    before = {folder: Path(folder, MANIFEST).stat().st_mtime_ns for folder in unkept}
    assert collect(jobs) == {f"{folder}/model" for folder in unkept}
    for folder in unkept:
        manifest = verify(Path(folder))
        assert set(manifest["files"]) == {"rows.parquet"}
        assert manifest["facts"]["has_weights"] is False
        assert Path(folder, MANIFEST).stat().st_mtime_ns == before[folder]
        assert not Path(folder, "model").exists()
    assert listed(jobs) == set()
    assert listed(jobs_of(keep_models="all")) == set()


def test_a_pruned_record_is_the_one_that_training_writes_without_weights(tmp_path, monkeypatch):
    quick_publishing(monkeypatch)
    for name, weights in (("with", True), ("without", False)):
        with publishing(tmp_path / name, "model", {"a": 1}) as draft:
            write(draft.path / "clean.parquet", "c")
            if weights:
                write(draft.path / "model" / "model.safetensors", "w")
            draft.note(has_weights=weights, round=1)
    prune_weights(tmp_path / "with")
    assert (tmp_path / "with" / MANIFEST).read_bytes() == (tmp_path / "without" / MANIFEST).read_bytes()
    assert sorted(p.name for p in (tmp_path / "with").iterdir()) == sorted(
        p.name for p in (tmp_path / "without").iterdir()
    )


def test_weights_of_an_edited_record_stay(jobs, steps):
    for step in steps.values():
        make(step)
    path = Path(f"results/s/models/{CELL}/adv/r01/{MANIFEST}")
    path.write_text(path.read_text().replace('"has_weights": true', '"has_weights": 1'))
    stayed = [str(one.path) for one, why in remove(garbage(survey(jobs))) if why]
    assert stayed == [str(path.with_name("model"))]
    assert path.with_name("model").is_dir()


def test_an_attack_whose_model_was_pruned_says_what_to_do(jobs, steps):
    for step in steps.values():
        make(step)
    collect(jobs)
    wider = jobs_of(evaluate=[{"attacks": ["gcg"], "defenses": ["adv"], "rounds": "all"}])
    errors = {seen.step.name: seen.error for seen in survey(wider).seen if seen.state == "failed"}
    assert set(errors) == {f"password_match/nano/{s}/s0/adv/{n}/gcg" for s in "ab" for n in ("01", "03")}
    assert "delete the folder and run again" in errors[f"{CELL}/adv/01/gcg"]


def test_slurm_logs_go_by_age(slurm, jobs):
    place = Path(".snakemake/slurm_logs/rule_attack/x")
    for number, days in ((1, 40), (2, 40), (3, 20)):
        write(place / f"{number}.log", "l", age=days * 86400)
    slurm.says((2, "RUNNING", "", "", "", "/elsewhere"))
    assert listed(jobs) == {("Slurm log", f"{place}/1.log")}
    assert len(listed(jobs, log_days=10)) == 2
    assert collect(jobs) == {f"{place}/1.log"}


def test_orphans_go_only_when_asked_for_and_attacks_before_models(jobs, steps):
    do_all(jobs, steps)
    write(f"{steps['finetune password_match/nano/b/s0'].state}/checkpoints/a", "w")
    smaller = jobs_of(grid=[{"tasks": ["password_match"], "families": ["nano"], "scales": ["a"], "seeds": [0]}])
    assert listed(smaller) == set()
    order = [str(one.path).split("/")[2] for one in garbage(survey(smaller), orphans=True)]
    assert order == ["attacks"] * 4 + ["models"] * 5 + ["base", "state"]
    gone = collect(smaller, orphans=True)
    assert all("/b" in path for path in gone)
    assert {seen.state for seen in survey(smaller).seen} == {"done"}
    left = {one for one in tree("results") if "/b" in one}
    assert not {one for one in left if "/logs/" not in one and "/benchmarks/" not in one and "/base/nano/a/" not in one}


def test_nothing_is_removed_while_a_controller_may_live(jobs, steps):
    me = Owner.me()
    facts = {**vars(me), "pid": os.getppid(), "started": process_start(os.getppid())}
    write(".snakemake/controller.json", json.dumps(facts))
    assert "a controller lives" in refusal(survey(jobs))
    write(".snakemake/controller.json", json.dumps({**facts, "started": "before"}))
    assert refusal(survey(jobs)) == ""
    Path(".snakemake/controller.json").unlink()
    write(".snakemake/locks/0.output.lock", "x")
    assert "run gc on its machine" in refusal(survey(jobs))


def test_shared_bytes_are_freed_with_their_last_name(tmp_path):
    one, two, out = (tmp_path / name for name in ("one", "two", "out"))
    write(one / "f", "w" * 10000)
    two.mkdir()
    out.mkdir()
    os.link(one / "f", two / "f")
    used = (one / "f").stat().st_blocks * 512
    assert freed([one, two]) == {one: 0, two: used}
    os.link(one / "f", out / "f")
    assert freed([one, two]) == {one: 0, two: 0}


# --- at any point of a half-finished study --------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(data=st.data())
def test_every_input_of_every_unfinished_job_survives(data):
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        quick_publishing(monkeypatch)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PATH", "/nowhere")
        jobs = jobs_of(keep_models=data.draw(st.sampled_from(["evaluated", "all"])))
        steps = list(steps_of(jobs).values())
        _half_finish(data, jobs, steps)
        _litter(data, steps)
        orphans = data.draw(st.booleans())
        smaller = [{"tasks": ["password_match"], "families": ["nano"], "scales": ["a"], "seeds": [0]}]
        if data.draw(st.booleans()):
            jobs = jobs_of(grid=smaller)
        before = survey(jobs)
        unfinished = [seen.step for seen in before.seen if seen.state != "done"]
        inputs = {path for step in unfinished for path in step.inputs if Path(path).exists()}
        states = [step.state for step in unfinished if step.state]
        held = {path: contents(path) for path in {*inputs, *states}}
        collect(jobs, orphans=orphans)
        after = survey(jobs)
        assert [seen.state for seen in after.seen] == [seen.state for seen in before.seen]
        assert {path: contents(path) for path in held} == held
        for seen in after.seen:
            for path in seen.step.outputs:
                if path.endswith(MANIFEST) and Path(path).exists():
                    verify(Path(output_folder(path)))
        assert garbage(after, orphans=orphans) == []


def contents(path):
    """Bytes of a file, or of every file of an artifact or a state folder but for drafts."""
    place = Path(output_folder(path))
    if place.is_file():
        return place.read_bytes()
    return {name: content for name, content in tree(place).items() if ".tmp-" not in name}


def _half_finish(data, jobs, steps):
    """Jobs done in an order that the workflow allows; of some blocks only the first round, some with a mark."""
    for step in steps:
        if not all(Path(path).exists() for path in step.inputs) or data.draw(st.integers(0, 3)) == 0:
            continue
        how = data.draw(st.sampled_from(["whole", "whole", "pruned", "part", "marked"]))
        if how == "part":
            publish_one(step.outputs[0])
            continue
        make(step, kept(jobs) if how == "pruned" else None)
        if how == "marked":
            mark(step)


def _litter(data, steps):
    for step in steps:
        what = data.draw(st.integers(0, 7))
        if what & 1 and step.state:
            for name in ("checkpoints/step1/a", "finished/round0001/b", "ranks/progress"):
                write(f"{step.state}/{name}", "w")
        if what & 2 and step.outputs[0].endswith(MANIFEST):
            place = Path(output_folder(step.outputs[0]))
            write(place.parent / f".{place.name}.tmp-0123456789ab/a", "w", age=HOURS)
        if what & 4 and step.state:
            write(f"{step.state}/finished/.round0002.tmp-0123456789ab/a", "w", age=HOURS)


# --- the entries ----------------------------------------------------------------------------------------------------


def call(script, tmp_path, *options):
    command = [sys.executable, str(ROOT / "scripts" / script), "--directory", str(tmp_path), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_gc_lists_then_removes_and_a_second_controller_is_refused(tmp_path):
    draft = write(tmp_path / "results/nano/models/.r00.tmp-0123456789ab/a", "w" * 5000, age=HOURS).parent
    listed_only = call("reclaim.py", tmp_path)
    assert listed_only.returncode == 0, listed_only.stderr
    assert "draft" in listed_only.stdout
    assert "1 things, 8.0 KiB; nothing was removed, --yes removes them" in listed_only.stdout
    assert draft.exists()
    facts = {**vars(Owner.me()), "pid": os.getpid(), "started": process_start(os.getpid())}
    write(tmp_path / ".snakemake/controller.json", json.dumps(facts))
    refused = call("reclaim.py", tmp_path)
    assert "not now: a controller lives" in refused.stdout
    with write(tmp_path / ".snakemake/controller.lock", "").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = call("reclaim.py", tmp_path, "--yes")
    assert refused.returncode == 75
    assert "another controller works here" in refused.stderr
    assert draft.exists()
    (tmp_path / ".snakemake/controller.json").unlink()
    done = call("reclaim.py", tmp_path, "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 things removed, 8.0 KiB given back" in done.stdout
    assert not draft.exists()
    assert not (tmp_path / ".snakemake/controller.json").exists()


@pytest.mark.parametrize("script", ["reclaim.py", "du.py", "status.py"])
def test_a_place_that_is_not_there_is_one_line(tmp_path, script):
    done = call(script, tmp_path / "nowhere")
    assert done.returncode == 1
    called = {"reclaim.py": "gc"}.get(script, script[:-3])
    assert done.stderr.splitlines() == [
        f"[{called}] error: --directory {tmp_path}/nowhere: No such file or directory; "
        "give the folder that holds results/"
    ]


def test_du_counts_shared_files_once_and_says_what_gc_frees(tmp_path):
    root = tmp_path / "results/nano"
    weights = write(root / "models/password_match/nano/30k/s0/adv/r01/model/model.safetensors", "w" * 40960)
    other = root / "state/password_match/nano/30k/s0/adv/r01/finished/round0001/model/model.safetensors"
    other.parent.mkdir(parents=True)
    os.link(weights, other)
    write(root / "state/password_match/nano/30k/s0/adv/r01/ranks/submitit/1_log.out", "l" * 4096)
    write(root / "attacks/.gcg.tmp-0123456789ab/a", "w" * 8192, age=HOURS)
    write(tmp_path / ".snakemake/log/a.log", "l")
    done = call("du.py", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0].strip(): line.split() for line in done.stdout.splitlines() if line}
    assert rows["models"][1:] == ["1", "40.0", "KiB", "40.0", "KiB"]
    assert rows["state"][1:] == ["1", "40.0", "KiB", "0", "B"]
    assert rows["ranks"][1:] == ["1", "4.0", "KiB", "4.0", "KiB"]
    assert rows["drafts"][1:] == ["1", "8.0", "KiB", "8.0", "KiB"]
    assert "results/nano/models/password_match/nano/30k/s0/adv/r01" in done.stdout
    assert "gc would give back 8.0 KiB (1 things)" in done.stdout
