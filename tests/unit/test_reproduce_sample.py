"""What is drawn, what a scratch folder holds, how artifacts are compared, how Snakemake's end is understood."""

import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from hardscale.artifacts.manifest import MANIFEST, read_manifest
from hardscale.artifacts.publish import publishing
from hardscale.errors import ArtifactError
from hardscale.ops import scratch
from hardscale.ops.cli import study_from_files
from hardscale.ops.cron_arguments import iso_week, parse
from hardscale.ops.differences import compare_artifacts
from hardscale.ops.full import fresh_folder
from hardscale.ops.outcome import BUSY, USAGE, StoppedError
from hardscale.ops.sample import ATTACK, OTHER, TRAINING, Sample, Unit, choose, units
from hardscale.ops.scratch import Workflow, last_error, link_surroundings, provide
from hardscale.plan.jobs import Jobs
from study_runs import ROOT


def make(folder, loss=0.5, weight=1.0, candidates=8, accuracy=0.75):
    with publishing(folder, "thing", {"settings": {"n_candidates": candidates}}) as draft:
        (draft.path / "model").mkdir()
        save_file({"w": np.full(3, weight, np.float32)}, draft.path / "model" / "w.safetensors")
        pq.write_table(pa.table({"example_id": [0, 1], "loss": [loss, 1.0]}), draft.path / "attack.parquet")
        (draft.path / "timing.parquet").write_text(str(loss))
        draft.note(accuracy=accuracy)
    return folder


# --- the jobs of a study --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jobs():
    return Jobs(study_from_files([ROOT / "config.yaml"]))


def test_units_publish_every_artifact_of_the_study_once(jobs):
    found = [folder / MANIFEST for unit in units(jobs) for folder in unit.outputs]
    wanted = {Path(name) for name in jobs.targets() if name.endswith(MANIFEST)}
    assert len(found) == len(set(found))
    assert wanted <= set(found)
    # More than the targets: rounds of which only the record stays.
    assert all("models" in path.parts for path in set(found) - wanted)


def test_units_read_what_others_publish(jobs):
    all_units = list(units(jobs))
    published = {folder for unit in all_units for folder in unit.outputs}
    assert {folder for unit in all_units for folder in unit.inputs} <= published
    kinds = {unit.rule.rstrip("0123456789_"): (unit.kind, len(unit.inputs)) for unit in all_units}
    assert kinds == {
        "prepare_task": (OTHER, 0),
        "prepare_model": (OTHER, 2),
        "finetune": (TRAINING, 2),
        "adversarial_rounds": (TRAINING, 2),
        "c_at": (TRAINING, 2),
        "attack": (ATTACK, 2),
    }


def made_up(folder, finished=True):
    found = []
    for i in range(12):
        kind = (OTHER, TRAINING, ATTACK)[i % 3]
        unit = Unit(f"rule{i}", kind, (), (folder / f"{kind}{i}",))
        if finished:
            unit.outputs[0].mkdir(parents=True)
            (unit.outputs[0] / MANIFEST).write_text("{}")
        found.append(unit)
    return found


def test_a_draw_holds_both_kinds_and_follows_its_seed(tmp_path):
    all_units = made_up(tmp_path)
    draws = [choose(all_units, 2 + seed % 5, seed) for seed in range(40)]
    for seed, draw in enumerate(draws):
        assert len(draw) == len(set(draw)) == 2 + seed % 5
        assert {TRAINING, ATTACK} <= {unit.kind for unit in draw}
        assert draw == choose(all_units, 2 + seed % 5, seed)
    assert {unit for draw in draws for unit in draw} == set(all_units)
    assert choose(all_units, 99, 0) == all_units


def test_a_draw_needs_two_finished_jobs(tmp_path):
    with pytest.raises(StoppedError, match="at least 2") as stop:
        choose(made_up(tmp_path / "a"), 1, 0)
    assert stop.value.status == USAGE
    with pytest.raises(StoppedError, match="no finished training"):
        choose(made_up(tmp_path / "b", finished=False), 2, 0)


# --- scratch folders ------------------------------------------------------------------------------------------------


def test_inputs_are_verified_links_and_the_originals_keep_their_age(tmp_path):
    original = make(tmp_path / "results/s/tasks/t")
    os.utime(original / MANIFEST, (1, 1))
    place = tmp_path / "scratch"
    for _ in range(2):  # asked for by two jobs
        provide(Path("results/s/tasks/t"), tmp_path, place)
    copy = place / "results/s/tasks/t"
    assert read_manifest(copy) == read_manifest(original)
    assert (copy / "model/w.safetensors").is_symlink()
    assert not (copy / MANIFEST).is_symlink()
    assert (copy / MANIFEST).stat().st_mtime > 1 == (original / MANIFEST).stat().st_mtime
    (original / "attack.parquet").write_text("y")
    with pytest.raises(ArtifactError, match="bytes differ"):
        provide(Path("results/s/tasks/t"), tmp_path, tmp_path / "other")


def test_relative_paths_of_a_study_mean_the_same_in_scratch(tmp_path):
    for name in ("results/s", "runs/old", ".snakemake", "my-model"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tickets.csv").write_text("a,b\n")
    place = tmp_path / "runs" / "new"
    for _ in range(2):
        link_surroundings(tmp_path, place)
    assert sorted(path.name for path in place.iterdir()) == ["my-model", "tickets.csv"]
    assert (place / "tickets.csv").read_text() == "a,b\n"


def test_a_full_run_resumes_with_an_unfinished_folder_of_its_day(tmp_path):
    import datetime

    day, root_in = datetime.date(2026, 11, 1), Path("results/s")
    first = fresh_folder(tmp_path, root_in, day)
    assert first == tmp_path / "runs" / "2026-11-01"
    (first / root_in / "tables").mkdir(parents=True)
    assert fresh_folder(tmp_path, root_in, day) == first
    (first / root_in / "tables" / "summary.md").touch()
    assert fresh_folder(tmp_path, root_in, day).name == "2026-11-01-2"


# --- comparing ------------------------------------------------------------------------------------------------------


def test_equal_artifacts_do_not_differ_whatever_their_timing(tmp_path):
    before = read_manifest(make(tmp_path / "a"))
    make(tmp_path / "b")
    (tmp_path / "b" / "timing.parquet").write_text("slower")
    assert not compare_artifacts(tmp_path / "a", before, tmp_path / "b")


def test_rows_weights_facts_and_settings_are_named(tmp_path):
    before = read_manifest(make(tmp_path / "a"))
    make(tmp_path / "b", loss=0.25, weight=3.5, candidates=4, accuracy=0.5)
    difference = compare_artifacts(tmp_path / "a", before, tmp_path / "b")
    assert difference.lines == [
        "attack.parquet: 1 row(s) in loss by 0.25 at example_id=0",
        "model/w.safetensors: largest difference 2.5",
        "accuracy 0.75 -> 0.5",
    ]
    assert difference.notes == ["setting settings.n_candidates 8 -> 4"]
    assert difference.max_difference == 2.5


def test_another_setting_with_the_same_result_is_a_note(tmp_path):
    before = read_manifest(make(tmp_path / "a"))
    difference = compare_artifacts(tmp_path / "a", before, make(tmp_path / "b", candidates=4))
    assert not difference
    assert difference.notes == ["setting settings.n_candidates 8 -> 4"]


# --- Snakemake's end ------------------------------------------------------------------------------------------------


def workflow_of(monkeypatch, script):
    """A workflow whose Snakemake is a few lines of Python."""
    monkeypatch.setattr(scratch, "_call", lambda command, output: _run(script, command, output))
    return Workflow(Path("study.yaml"), ("--cores", "1"))


def _run(script, command, output):
    import subprocess

    return subprocess.run(
        [sys.executable, "-c", script, *command], stdout=output, stderr=output, check=False
    ).returncode


def test_another_controller_is_passed_on_with_its_words(tmp_path, monkeypatch):
    script = "import sys; print('noise'); print('error: host a, pid 7 works here'); print('more'); sys.exit(75)"
    with pytest.raises(StoppedError, match="host a, pid 7 works here") as stop:
        workflow_of(monkeypatch, script).run(tmp_path, tmp_path / "logs" / "x.log", ["all"])
    assert stop.value.status == BUSY


def test_snakemake_is_told_the_directory_and_the_study(tmp_path, monkeypatch):
    log = tmp_path / "x.log"
    assert workflow_of(monkeypatch, "import sys; print(sys.argv[1:])").run(tmp_path, log, ["target"]) == 0
    for words in (
        "'target', '--snakefile'",
        f"'--directory', '{tmp_path}'",
        "'--configfile', 'study.yaml'",
        "'--cores'",
    ):
        assert words in log.read_text()


#: Snakemake as a copy of the originals, told by its options where to put which.
_COPIES = """
import shutil, sys
from pathlib import Path
words = sys.argv[1:]
originals, place = Path({originals!r}), Path(words[words.index("--directory") + 1])
assert words[words.index("--allowed-rules") + 1] == "attack"
for name in words:
    if name.endswith("manifest.json"):
        shutil.copytree(originals / Path(name).parent, place / Path(name).parent)
"""


def sampled(tmp_path, monkeypatch, script, **options):
    """A sample of one attack on made-up artifacts."""
    for name in ("tasks/t", "models/m", "attacks/a"):
        make(tmp_path / "results/s" / name)
    here = Path("results/s")
    unit = Unit("attack", ATTACK, (here / "models/m", here / "tasks/t"), (here / "attacks/a",))
    workflow = workflow_of(monkeypatch, script)
    return Sample([unit], workflow, tmp_path, tmp_path / "runs/sample", tmp_path / here, tmp_path / "x.log", **options)


def test_a_sample_that_agrees_leaves_nothing(tmp_path, monkeypatch):
    sample = sampled(tmp_path, monkeypatch, _COPIES.format(originals=str(tmp_path)))
    (finding,) = sample.run(nullcontext())
    assert (finding.what, finding.status) == ("attacks/a", "same")
    assert not (tmp_path / "runs").exists()


def test_a_sample_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    sample = sampled(tmp_path, monkeypatch, "import sys; print('error: host a works here'); sys.exit(75)")
    with pytest.raises(StoppedError, match="host a") as stop:
        sample.run(nullcontext())
    assert stop.value.status == BUSY
    assert not (tmp_path / "runs").exists()


def test_a_damaged_original_is_not_made_again(tmp_path, monkeypatch):
    sample = sampled(tmp_path, monkeypatch, "raise SystemExit('called')")
    (tmp_path / "results/s/models/m/attack.parquet").write_text("y")
    (finding,) = sample.run(nullcontext())
    assert (finding.status, "bytes differ" in finding.found) == ("damaged", True)
    assert not (tmp_path / "x.log").exists()


def test_a_failed_job_is_a_finding_with_its_last_error(tmp_path, monkeypatch):
    sample = sampled(tmp_path, monkeypatch, "import sys; print('[attack] error: out of memory'); sys.exit(1)")
    (finding,) = sample.run(nullcontext())
    assert (finding.what, finding.status, finding.found) == ("attacks/a", "failed", "out of memory")
    assert (tmp_path / "runs/sample").exists()  # to look at


def test_what_stops_cron_stops_snakemake_first(tmp_path):
    note = tmp_path / "pid"
    script = "import os, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    script += f"open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(3600)"

    def stop_soon():
        while not (note.exists() and note.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with (tmp_path / "log").open("wb") as log:
        threading.Thread(target=stop_soon, daemon=True).start()
        with pytest.raises(StoppedError, match="SIGTERM") as stop:
            scratch._call([sys.executable, "-c", script], log)
    assert stop.value.status == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_last_error_of_this_part_of_a_log(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("error: old\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write("a\n[job] error: first\nerror: second\nexiting\n\n")
    assert last_error(log, start) == "second"
    log.write_text("ValueError: bad\nWorkflowError: a job failed\nexiting\n")
    assert last_error(log) == "ValueError: bad"
    log.write_text("only\nwords\n\n")
    assert last_error(log) == "words"
    log.write_text("")
    assert last_error(log) == ""


# --- command lines --------------------------------------------------------------------------------------------------


def test_options_after_two_dashes_are_snakemakes():
    args = parse(["sample", "3", "--profile", "slurm", "--seed", "5", "--", "--jobs", "4"])
    assert (args.mode, args.count, args.seed, args.profile) == ("sample", 3, 5, "slurm")
    assert args.snakemake == ["--jobs", "4"]


def test_the_week_is_the_seed():
    import datetime

    assert iso_week(datetime.date(2026, 11, 22)) == 202647
    assert iso_week(datetime.date(2027, 1, 1)) == 202653
    assert parse(["sample", "2"]).seed == iso_week(datetime.date.today())


@pytest.mark.parametrize("argv", [[], ["chek"], ["sample"], ["sample", "x"], ["full", "--false-alarm-rate", "1.5"]])
def test_a_wrong_command_line_is_refused_with_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(argv)
    assert stop.value.code == USAGE
    assert "usage" in capsys.readouterr().err
