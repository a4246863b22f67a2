"""A disk that fills up under a distributed job: one line, nothing half-written counts, freed space is all it takes."""

import errno
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from runs import OnSlurm, wait_until_nothing_lives

from study_runs import StudyRun, copy_sources
from waiting import HANG_SECONDS, wait_until

CELL = "password_match/nano/30k/s0"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB where the study keeps its state. Mounted for all processes: those of the cluster work on it."""
    place = tmp_path / "run" / "results" / "tiny" / "state"
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"a tmpfs cannot be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error


@pytest.mark.long
def test_a_disk_that_fills_up_during_training_costs_a_line_and_no_result(tiny, new_cluster, small_disk, tmp_path):
    from hardscale.training.session import sealed  # brings torch along

    cluster = new_cluster(nodes=2, cpus=2, memory=16_000)  # retries ask for more
    (tmp_path / "sources").mkdir()
    sources = copy_sources(tmp_path / "sources")
    rule = sources / "workflow" / "rules" / "train.smk"
    rule.write_text(rule.read_text().replace(" --zero-stage", " --save-seconds 0 --zero-stage"))  # after every step
    study = OnSlurm(StudyRun(sources, sources / "studies" / "tiny.yaml", tmp_path / "run"), cluster.env)
    state = small_disk / CELL / "none"

    controller = study.start()
    try:
        wait_until(lambda: len(list(state.glob("checkpoints/*/seal.json"))) == 2 or controller.poll() is not None)
        fill(small_disk / "ballast")
        assert controller.wait(HANG_SECONDS) != 0, study.said
    finally:
        controller.kill()

    errors = [line for line in study.said.splitlines() if re.match(r"\[finetune [^]]*\] error: ", line)]
    assert errors, study.said
    for line in errors:  # the first attempt, and the retries that find no room to begin
        assert f"state/{CELL}/none" in line, line
        assert re.search(r"No space left on device|is full", line), line
        assert re.search(r"run again|the same command resumes", line), line
    assert len(errors) == len(re.findall(r"^Error in rule finetune", study.said, re.MULTILINE)), study.said
    assert "Traceback" not in study.said
    assert cluster.live_jobs() == []
    assert not (study.run.results / "models" / CELL / "none").exists()
    kept = [tag for tag in sorted((state / "checkpoints").iterdir()) if sealed(tag) is not None]
    assert kept, "the checkpoint before is whole"

    (small_disk / "ballast").unlink()
    before = len(study.said)
    assert study.finish() == 0, study.said
    going_on = re.search(r"resuming after step (\d+) of 600", study.said[before:])
    assert going_on, study.said[before:]
    assert int(going_on[1]) == max(int(tag.name[4:13]) for tag in kept)
    assert study.tables() == OnSlurm(tiny, cluster.env).tables()
    wait_until_nothing_lives(cluster, tmp_path)
    assert shutil.disk_usage(small_disk).used < 2**20, "checkpoints are gone with the end of their jobs"
