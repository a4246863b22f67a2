"""A cluster in trouble: a lost node, accounting, refusals, many distributed jobs on a small head, Ctrl-C."""

import json
import signal
import time
from itertools import pairwise

import pytest
from drivers import Driver, counting, held_back, lives
from runs import OnSlurm, wait_until_nothing_lives

from hardscale.launch.queue import cancel_waiting_orphans
from hardscale.launch.state import read_note
from waiting import HANG_SECONDS, wait_until


def test_a_distributed_job_whose_node_is_lost_starts_again_when_there_is_one(new_cluster, tmp_path):
    cluster = new_cluster(nodes=2, cpus=2)
    with held_back(tmp_path):
        driver = Driver(cluster, tmp_path, steps=100)
        number = driver.job()
        counting(tmp_path)
        cluster.kill_node(cluster.node_names[1])
        wait_until(lambda: cluster.squeue().get(number) != "RUNNING", "the end of a distributed job without its node")
        cluster.revive_node(cluster.node_names[1])
        counting(tmp_path, life=2)
    assert driver.ends() == 0, driver.said
    assert len(lives(tmp_path)) >= 2
    assert (tmp_path / "done0").read_text() == "100"


def test_with_accounting_a_dead_distributed_job_is_reported_too(accounting_cluster, tmp_path):
    good = Driver(accounting_cluster, tmp_path / "good", steps=3, account="test")
    assert good.ends() == 0, good.said
    bad = Driver(accounting_cluster, tmp_path / "bad", job="dies", steps=1_000_000, account="test")
    assert bad.ends() == 1
    assert "ended as FAILED" in bad.said


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"account": "nobody"}, "account nobody"), ({"mem_mb": 10_000_000}, "partition batch, account test")],
)
def test_what_slurm_refuses_is_said_with_what_was_asked(asked, words, accounting_cluster, tmp_path):
    driver = Driver(accounting_cluster, tmp_path, **{"account": "test", **asked})
    assert driver.ends() == 1
    assert "sbatch refused count" in driver.said
    assert words in driver.said


def test_sixty_waiting_distributed_jobs_fit_on_a_small_head(new_cluster, tmp_path):
    cluster = new_cluster(nodes=1, cpus=1)
    blocker = cluster.sbatch("sleep 3600", "--partition=batch", "--exclusive")
    drivers = [
        Driver(cluster, tmp_path / str(i), steps=1, identity=f"{i:064x}"[::-1], cwd=tmp_path, ranks=1, nodes=1)
        for i in range(60)
    ]
    try:
        wait_until(lambda: all(read_note(d.place / "state") is not None for d in drivers))
        looks, apart = set(), []

        def calm():
            """Each driver asks once when it has submitted; after that, one look follows the other."""
            looks.add(json.loads((tmp_path / ".snakemake/hardscale-queue.json").read_text())["asked"])
            apart[:] = [later - earlier for earlier, later in pairwise(sorted(looks))]
            return any(seconds >= 5 for seconds in apart[:-1])

        wait_until(calm, "a look at the queue after one that came late")
        sizes = sorted(driver.megabytes() for driver in drivers)
        assert sizes[-1] <= 60, sizes
        assert apart[-1] >= 5, f"all drivers together ask every ten seconds: {apart}"
    finally:
        for driver in drivers:
            driver.process.send_signal(signal.SIGINT)
        codes = {driver.ends() for driver in drivers}
    assert codes == {130}
    assert cluster.live_jobs() == [blocker]
    cluster.call("scancel", str(blocker))


@pytest.mark.parametrize("signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_controller_that_is_told_to_stop_leaves_no_job(signum, tiny, cluster, tmp_path):
    study = OnSlurm(tiny.elsewhere(tmp_path), cluster.env)
    controller = study.start()
    wait_until(lambda: bool(cluster.live_jobs()) or controller.poll() is not None)
    time.sleep(3)
    controller.send_signal(signum)
    assert controller.wait(HANG_SECONDS) != 0, study.said
    wait_until_nothing_lives(cluster, tmp_path)


def test_waiting_jobs_of_a_dead_controller_are_cancelled_and_no_others(new_cluster, tmp_path, monkeypatch):
    cluster = new_cluster(nodes=1, cpus=1)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    running = cluster.sbatch("sleep 3600", "--exclusive", f"--chdir={here}", "--comment=rule_attack_wildcards_a")
    cluster.wait_for_state(running, "RUNNING")
    orphan = cluster.sbatch("sleep 3600", f"--chdir={here}", "--comment=rule_attack_wildcards_b")
    others = [
        cluster.sbatch("sleep 3600", f"--chdir={there}", "--comment=rule_attack_wildcards_b"),
        cluster.sbatch("sleep 3600", f"--chdir={here}", "--comment=finetune a/b/c/s0"),
    ]
    monkeypatch.setenv("PATH", cluster.env["PATH"])
    assert cancel_waiting_orphans(here) == [orphan]
    cluster.wait_for_state(orphan, "CANCELLED")
    assert cluster.live_jobs() == sorted([running, *others])


@pytest.mark.long
def test_the_controller_as_a_job(tiny, cluster, tmp_path):
    from study_runs import environment

    script = tiny.sources / "profiles/slurm/controller.sbatch"
    plain = {**environment(tmp_path), "PATH": cluster.env["PATH"], "SLURM_CONF": cluster.env["SLURM_CONF"]}
    exports = ",".join(f"{name}={value}" for name, value in plain.items() if name.startswith(("HF_", "OMP_")))
    study = OnSlurm(tiny.elsewhere(tmp_path), cluster.env)
    words = study.command()
    number = int(
        cluster.call(
            *(
                "sbatch",
                "--parsable",
                "--partition=high",
                "--mem=1G",
                f"--chdir={tiny.sources}",
                f"--export=ALL,{exports}",
            ),
            *(f"--output={tmp_path}/controller.log", str(script), *words[words.index("--configfile") :]),
        )
    )
    wait_until(lambda: number not in cluster.live_jobs())
    assert study.tables() == OnSlurm(tiny, cluster.env).tables(), (tmp_path / "controller.log").read_text()
