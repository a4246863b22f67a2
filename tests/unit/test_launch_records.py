"""What an interrupted controller does not cost: finished outputs come back, forced ones do not."""

import json
import shutil
import time

import pytest

from hardscale.artifacts.manifest import verify
from hardscale.artifacts.publish import publishing
from hardscale.errors import ArtifactError
from hardscale.launch import driver, queue
from hardscale.launch.state import ENDED, RUN, end_run, keep, restore
from hardscale.runtime import slurm_queue
from hardscale.runtime.slurm_queue import SlurmJob


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A published output whose manifest Snakemake deleted, and the record of its job; the run never ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(RUN, "run-1")
    (tmp_path / ".snakemake").mkdir()
    out = tmp_path / "out"
    with publishing(out, "model", {"a": 1}) as draft:
        (draft.path / "weights").write_bytes(b"weights")
    keep(tmp_path / "state", "same", [out])
    (out / "manifest.json").unlink()
    return tmp_path / "state", out


def test_an_output_that_nobody_saw_end_comes_back(finished):
    state, out = finished
    assert restore(state, "same", [out])
    assert verify(out)["spec"] == {"a": 1}


def test_other_work_is_not_taken_for_it(finished):
    state, out = finished
    assert not restore(state, "other", [out])
    assert not (out / "manifest.json").exists()


def test_after_an_ordered_end_a_deleted_output_is_made_again(finished):
    state, out = finished
    end_run()
    assert (out.parent / ".snakemake" / ENDED).read_text() == "run-1\n"
    assert not restore(state, "same", [out])


@pytest.mark.parametrize("harm", ["changed", "gone", "folder"])
def test_a_harmed_output_is_made_again(harm, finished):
    state, out = finished
    if harm == "changed":
        (out / "weights").write_bytes(b"wEights")
    elif harm == "gone":
        (out / "weights").unlink()
    else:
        shutil.rmtree(out)
    assert not restore(state, "same", [out])
    with pytest.raises(ArtifactError):
        verify(out)


def test_drivers_share_one_squeue(tmp_path, monkeypatch):
    asked = []

    def jobs():
        asked.append(1)
        return [SlurmJob(7, "RUNNING", "x")]

    monkeypatch.setattr(slurm_queue, "jobs", jobs)
    place = tmp_path / "queue.json"
    assert [queue.states(60, place=place) for _ in range(3)] == [{7: "RUNNING"}] * 3
    assert len(asked) == 1
    # A job that was submitted after the last look is not in it.
    later = json.loads(place.read_text())["asked"] + 1e-6
    queue.states(60, since=later, place=place)
    assert len(asked) == 2
    place.write_text("half a fi")
    assert queue.states(60, place=place) == {7: "RUNNING"}


@pytest.mark.parametrize("skew", [86_400.0, -86_400.0])
def test_outputs_are_dated_by_the_clock_that_stamps_them(skew, tmp_path, monkeypatch):
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + skew)
    state, out = tmp_path / "state", tmp_path / "out"
    began = driver._now(state)
    assert not list(state.iterdir())
    with publishing(out, "model", {}):
        pass
    keep(state, "it", [out])
    assert driver._published([out], "it", state, began)()
    assert not driver._published([out], "other", state, began)()
    assert not driver._published([out], "it", state, began + 60)()
