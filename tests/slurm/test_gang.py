"""A gang on a real Slurm: attach, preempt, requeue, cancel, die."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardscale.launch.note import read_note

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "scripts"
DRIVER = """
import json, os, sys
from pathlib import Path
from hardscale.console import console
from hardscale.launch.gang import run_gang
from hardscale.launch.work import Allocation
job, place, steps, identity, partition = sys.argv[1:]
with console(None, "count"):
    run_gang([job, place, steps], 2, Path(place, "state"), "slurm", "count", worker="gang_worker", identity=identity,
             allocation=Allocation(nodes=2, mem_mb=200, minutes=10, partition=partition), log=Path(place, "log"))
"""


class Driver:
    """A driver process and what it says."""

    def __init__(self, cluster, place, job="counts", steps=30, identity="a" * 64, partition="batch"):
        self.place = place
        paths = {"PYTHONPATH": os.pathsep.join([str(SCRIPTS), str(HERE)])}
        self.output = place / f"driver{time.monotonic_ns()}"
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, job, str(place), str(steps), identity, partition],
                env={**cluster.env, **paths}, stdout=out, stderr=subprocess.STDOUT, cwd=place, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self):
        return self.output.read_text()

    def job(self):
        """The job that it waits for."""
        wait_until(lambda: read_note(self.place / "state") is not None)
        return read_note(self.place / "state").job_id

    def ends(self, seconds=90.0):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still waiting: {self.said}")

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(cluster, tmp_path):
    """Start drivers in this test's folder; none outlives the test."""
    drivers = []

    def begin(**more):
        drivers.append(Driver(cluster, tmp_path, **more))
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.kill()
    for job in cluster.live_jobs():
        cluster.call("scancel", str(job))
    wait_until(lambda: not cluster.live_jobs())


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def counting(place, life=1):
    """Wait until both ranks count, in their life of this number."""

    def both():
        with contextlib.suppress(OSError):
            return all(len((place / f"lives{r}").read_text().splitlines()) >= life for r in range(2))
        return False

    wait_until(both)


def lives(place, rank=0):
    return [line.split() for line in (place / f"lives{rank}").read_text().splitlines()]


def test_two_nodes_with_one_rank_each(start, tmp_path, cluster):
    driver = start(steps=5)
    assert driver.ends() == 0, driver.said
    assert {lives(tmp_path, rank)[0][1] for rank in range(2)} == set(cluster.node_names)
    assert "submitted as Slurm job" in driver.said
    assert "counting from 0" in driver.said
    assert (tmp_path / "done0").read_text() == (tmp_path / "done1").read_text() == "5"
    assert read_note(tmp_path / "state") is None


def test_a_killed_driver_leaves_its_gang_and_the_next_one_attaches(start, tmp_path, cluster):
    first = start(steps=60)
    number = first.job()
    counting(tmp_path)
    first.kill()
    second = start(steps=60)
    assert second.ends() == 0, second.said
    assert f"attached to Slurm job {number}" in second.said
    assert len(lives(tmp_path)) == 1


def test_the_results_of_a_gang_that_nobody_waited_for_are_taken(start, tmp_path, cluster):
    first = start(steps=10)
    number = first.job()
    first.kill()
    wait_until(lambda: number not in cluster.live_jobs())
    second = start(steps=10)
    assert second.ends() == 0, second.said
    assert len(lives(tmp_path)) == 1


def test_a_gang_without_its_note_is_found_by_name(start, tmp_path, cluster):
    first = start(steps=60)
    number = first.job()
    counting(tmp_path)
    first.kill()
    (tmp_path / "state" / "job.json").unlink()
    second = start(steps=60)
    assert second.ends() == 0, second.said
    assert f"attached to Slurm job {number}" in second.said


def test_a_gang_of_other_settings_is_cancelled(start, tmp_path, cluster):
    first = start(steps=2000)
    number = first.job()
    counting(tmp_path)
    first.kill()
    for kept in tmp_path.glob("count*"):
        kept.unlink()
    second = start(steps=5, identity="b" * 64)
    assert second.ends() == 0, second.said
    assert f"cancelling Slurm job {number}" in second.said
    assert number not in cluster.live_jobs()


def test_a_preempted_gang_is_requeued_and_goes_on(start, tmp_path, cluster):
    driver = start(steps=80, partition="low")
    number = driver.job()
    counting(tmp_path)
    cluster.sbatch("sleep 1", "--partition=high", "--nodes=2", "--exclusive")
    assert driver.ends() == 0, driver.said
    told = lives(tmp_path)
    assert [life[0] for life in told] == [str(number)] * 2
    assert int(told[1][3]) > 0
    assert (tmp_path / "done0").read_text() == "80"


@pytest.mark.parametrize("how", ["signal", "requeue"])
def test_a_time_limit_signal_or_a_requeue_by_hand_costs_nothing(how, start, tmp_path, cluster):
    driver = start(steps=60)
    number = driver.job()
    counting(tmp_path)
    words = ["scancel", "--signal=USR2", str(number)] if how == "signal" else ["scontrol", "requeue", str(number)]
    cluster.call(*words)
    assert driver.ends() == 0, driver.said
    assert [life[0] for life in lives(tmp_path)] == [str(number)] * 2
    assert (tmp_path / "done1").read_text() == "60"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_is_told_to_stop_cancels_its_gang(signum, start, tmp_path, cluster):
    driver = start(steps=2000)
    number = driver.job()
    counting(tmp_path)
    driver.process.send_signal(signum)
    assert driver.ends() == 128 + signum, driver.said
    assert number not in cluster.live_jobs()
    assert read_note(tmp_path / "state") is None
    assert int((tmp_path / "count0").read_text()) > 0


@pytest.mark.parametrize(("job", "words"), [("fails", "loss is not finite at step 3"), ("dies", "ended as FAILED")])
def test_a_rank_that_fails_or_dies_is_reported_within_a_minute(job, words, start, tmp_path, cluster):
    began = time.monotonic()
    driver = start(job=job, steps=2000)
    number = driver.job()
    assert driver.ends(60) == 1
    assert time.monotonic() - began < 60
    assert words in driver.said
    assert number not in cluster.live_jobs()


def test_a_cancelled_gang_is_reported(start, tmp_path, cluster):
    driver = start(steps=2000)
    number = driver.job()
    counting(tmp_path)
    cluster.call("scancel", str(number))
    assert driver.ends(60) == 1
    assert f"Slurm job {number} ended as CANCELLED, not by this workflow" in driver.said


def test_a_refused_sbatch_says_what_was_asked_for(start, tmp_path):
    driver = start(partition="nowhere")
    assert driver.ends(30) == 1
    assert "sbatch refused count (partition nowhere, account default)" in driver.said
    assert "slurm-check" in driver.said
