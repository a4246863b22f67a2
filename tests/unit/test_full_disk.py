"""A full disk while ranks and drivers work: one line, room for it, and no work lost for a line of progress."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hardscale.errors import ArtifactError
from hardscale.launch import queue
from hardscale.launch.lock import only_driver
from hardscale.launch.state import _SEAL, full_disk, naming_a_full_disk
from hardscale.runtime import slurm_queue
from hardscale.runtime.slurm_queue import SlurmJob

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def checkpoints(tmp_path):
    """A sealed checkpoint and a half-written one."""
    for name, whole in (("step1", True), ("step2", False)):
        tag = tmp_path / "checkpoints" / name
        tag.mkdir(parents=True)
        (tag / "weights").write_bytes(b"x" * 1000)
        if whole:
            (tag / "seal.json").write_text("{}")
    return tmp_path / "checkpoints"


def sizes(checkpoints):
    return [(checkpoints / name / "weights").stat().st_size for name in ("step1", "step2")]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        ArtifactError("state/checkpoints: No space left on device (0.0 MiB free); then run again"),
    ],
)
def test_a_rank_names_the_disk_and_empties_only_what_is_half_written(error, checkpoints):
    state = checkpoints.parent
    with (
        pytest.raises(ArtifactError, match=r"(No space left|quota exceeded).*MiB free.*run again"),
        naming_a_full_disk(state, checkpoints),
    ):
        raise error
    assert sizes(checkpoints) == [1000, 0]


def test_other_errors_pass_and_a_driver_touches_no_checkpoint(checkpoints):
    with pytest.raises(ValueError, match="a bug"), naming_a_full_disk(checkpoints.parent, checkpoints):
        raise ValueError("a bug")
    # The ranks of a driver that finds no room may be writing.
    with pytest.raises(ArtifactError, match="No space left"), naming_a_full_disk(checkpoints.parent):
        raise OSError(errno.ENOSPC, "No space left on device", "note")
    assert sizes(checkpoints) == [1000, 1000]


def test_the_seal_is_that_of_checkpoints():
    from hardscale.training.session import SEAL

    assert _SEAL == SEAL


def test_a_driver_without_a_word_of_its_ranks_looks_at_the_disk(tmp_path, monkeypatch):
    assert full_disk(tmp_path) == ""
    assert full_disk(tmp_path / "gone") == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    assert f"the disk of {tmp_path} is full (0.0 MiB free)" in full_disk(tmp_path)
    assert "the same command resumes" in full_disk(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_lines_that_find_no_room_end_no_job():
    code = (
        "from hardscale.runtime.console import Progress, console, say\nfrom hardscale.errors import DataError\n"
        "import os\n"
        "with console(None, 'job'):\n"
        "    say('a line'); p = Progress(2, 'train', interval=0); p.update(); p.close()\n"
        "    os.write(1, b'worked')\n"
        "    raise DataError('then failed')\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, env={"PYTHONPATH": str(SCRIPTS)}
        )
    assert done.stdout == b"worked"
    assert done.returncode in (1, 120)  # Python says 120 when what it still had to write found no room


def test_a_driver_that_can_not_share_the_answer_of_slurm_uses_it(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_queue, "jobs", lambda: [SlurmJob(7, "RUNNING", "x")])

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert queue.states(60, place=tmp_path / "queue.json") == {7: "RUNNING"}
    assert [path.name for path in tmp_path.iterdir()] == ["queue.lock"]  # no draft is left
    monkeypatch.setattr(Path, "open", full)
    assert queue.states(60, place=tmp_path / "queue.json") == {7: "RUNNING"}


def test_where_the_file_system_knows_no_locks_a_driver_works_without(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with only_driver(tmp_path / "driver.lock", "it"):
        pass
    monkeypatch.setattr(slurm_queue, "jobs", lambda: [])
    assert queue.states(60, place=tmp_path / "queue.json") == {}
