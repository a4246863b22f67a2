"""A distributed job on a real Slurm: attach, preempt, requeue, cancel, die."""

import signal

import pytest
from drivers import Driver, counting, held_back, lives

from hardscale.launch.state import read_note
from waiting import wait_until


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


def test_two_nodes_with_one_rank_each(start, tmp_path, cluster):
    driver = start(steps=5)
    assert driver.ends() == 0, driver.said
    assert {lives(tmp_path, rank)[0][1] for rank in range(2)} == set(cluster.node_names)
    assert "submitted as Slurm job" in driver.said
    assert "counting from 0" in driver.said
    assert (tmp_path / "done0").read_text() == (tmp_path / "done1").read_text() == "5"
    assert read_note(tmp_path / "state") is None


def test_a_killed_driver_leaves_its_distributed_job_and_the_next_one_attaches(start, tmp_path, cluster):
    with held_back(tmp_path):
        first = start(steps=60)
        number = first.job()
        counting(tmp_path)
        first.kill()
        second = start(steps=60)
        wait_until(lambda: "attached to" in second.said, "the second driver")
    assert second.ends() == 0, second.said
    assert f"attached to Slurm job {number}" in second.said
    assert len(lives(tmp_path)) == 1


def test_the_results_of_a_distributed_job_that_nobody_waited_for_are_taken(start, tmp_path, cluster):
    first = start(steps=10)
    number = first.job()
    first.kill()
    wait_until(lambda: number not in cluster.live_jobs())
    second = start(steps=10)
    assert second.ends() == 0, second.said
    assert len(lives(tmp_path)) == 1


def test_a_distributed_job_without_its_note_is_found_by_name(start, tmp_path, cluster):
    with held_back(tmp_path):
        first = start(steps=60)
        number = first.job()
        counting(tmp_path)
        first.kill()
        (tmp_path / "state" / "job.json").unlink()
        second = start(steps=60)
        wait_until(lambda: "attached to" in second.said, "the second driver")
    assert second.ends() == 0, second.said
    assert f"attached to Slurm job {number}" in second.said


def test_a_distributed_job_of_other_settings_is_cancelled(start, tmp_path, cluster):
    first = start(steps=1_000_000)
    number = first.job()
    counting(tmp_path)
    first.kill()
    for kept in tmp_path.glob("count*"):
        kept.unlink()
    second = start(steps=5, identity="b" * 64)
    assert second.ends() == 0, second.said
    assert f"cancelling Slurm job {number}" in second.said
    assert number not in cluster.live_jobs()


def test_a_preempted_distributed_job_is_requeued_and_resumes(start, tmp_path, cluster):
    with held_back(tmp_path):
        driver = start(steps=80, partition="low")
        number = driver.job()
        counting(tmp_path)
        cluster.sbatch("sleep 1", "--partition=high", "--nodes=2", "--exclusive")
        counting(tmp_path, life=2)
    assert driver.ends() == 0, driver.said
    told = lives(tmp_path)
    assert [life[0] for life in told] == [str(number)] * 2
    assert int(told[1][3]) > 0
    assert (tmp_path / "done0").read_text() == "80"


@pytest.mark.parametrize("how", ["signal", "requeue"])
def test_a_time_limit_signal_or_a_requeue_by_hand_costs_nothing(how, start, tmp_path, cluster):
    words = ["scancel", "--signal=USR2"] if how == "signal" else ["scontrol", "requeue"]
    with held_back(tmp_path):
        driver = start(steps=60)
        number = driver.job()
        counting(tmp_path)
        cluster.call(*words, str(number))
        counting(tmp_path, life=2)
    assert driver.ends() == 0, driver.said
    assert [life[0] for life in lives(tmp_path)] == [str(number)] * 2
    assert (tmp_path / "done1").read_text() == "60"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_is_told_to_stop_cancels_its_distributed_job(signum, start, tmp_path, cluster):
    driver = start(steps=1_000_000)
    number = driver.job()
    counting(tmp_path)
    driver.process.send_signal(signum)
    assert driver.ends() == 128 + signum, driver.said
    assert number not in cluster.live_jobs()
    assert read_note(tmp_path / "state") is None
    assert int((tmp_path / "count0").read_text()) > 0


@pytest.mark.parametrize(("job", "words"), [("fails", "loss is not finite at step 3"), ("dies", "ended as FAILED")])
def test_a_rank_that_fails_or_dies_is_reported(job, words, start, tmp_path, cluster):
    driver = start(job=job, steps=1_000_000)
    number = driver.job()
    assert driver.ends() == 1
    assert words in driver.said
    assert number not in cluster.live_jobs()


def test_a_cancelled_distributed_job_is_reported(start, tmp_path, cluster):
    driver = start(steps=1_000_000)
    number = driver.job()
    counting(tmp_path)
    cluster.call("scancel", str(number))
    assert driver.ends() == 1
    assert f"Slurm job {number} ended as CANCELLED, not by this workflow" in driver.said


def test_a_refused_sbatch_says_what_was_asked_for(start, tmp_path):
    driver = start(partition="nowhere")
    assert driver.ends() == 1
    assert "sbatch refused count (partition nowhere, account default)" in driver.said
    assert "slurm-check" in driver.said
