"""Time limits: of a distributed job, and of the controller where it is a job itself. Real ones, and their signal."""

import re

import pytest
from drivers import Driver, lives
from runs import OnSlurm, QueueWatch, wait_until_nothing_lives

from study_runs import environment
from waiting import wait_until

#: A minute before the signal that comes two minutes before the end: Slurm looks at limits every half minute.
MINUTES = 3


@pytest.fixture(scope="module")
def cluster(new_cluster):
    """Patient with a busy machine: a credential is good for so long, and a requeued job waits so long."""
    return new_cluster(nodes=2, cpus=2, cred_expire=20)


@pytest.mark.long
def test_a_distributed_job_that_reaches_its_time_limit_is_requeued_and_resumes(cluster, tmp_path):
    driver = Driver(cluster, tmp_path, steps=1200, minutes=MINUTES)
    number = driver.job()
    assert driver.ends() == 0, driver.said
    told = lives(tmp_path)
    assert {life[0] for life in told} == {str(number)}
    assert len(told) >= 2, told
    assert all(int(life[3]) > 0 for life in told[1:]), "a later life begins where the one before it saved"
    assert (tmp_path / "done0").read_text() == (tmp_path / "done1").read_text() == "1200"


def submit(tiny, cluster, folder, *options):
    """The controller as a job, its study in a folder of its own; the study and the job's number."""
    study = OnSlurm(tiny.elsewhere(folder), cluster.env)
    words = study.command()
    plain = environment(folder)
    exports = ",".join(f"{name}={value}" for name, value in plain.items() if name.startswith(("HF_", "OMP_")))
    number = cluster.call(
        *("sbatch", "--parsable", "--partition=high", "--mem=1G", f"--chdir={tiny.sources}"),
        *(f"--export=ALL,{exports}", f"--output={folder}/controller.log", *options),
        *(str(tiny.sources / "profiles/slurm/controller.sbatch"), *words[words.index("--configfile") :]),
    )
    return study, int(number)


def distributed_jobs(cluster):
    text = cluster.call("squeue", "-h", "-t", "R", "-o", "%j")
    return [name for name in text.split() if re.fullmatch(r"hs-[0-9a-f]{12}", name)]


def restarts(cluster, number):
    return int(re.search(r"Restarts=(\d+)", cluster.call("scontrol", "show", "job", str(number)))[1])


@pytest.mark.long
@pytest.mark.parametrize("how", ["signal", "limit"])
def test_a_controller_that_is_told_of_its_limit_requeues_itself_and_finishes(how, tiny, cluster, tmp_path):
    watch = QueueWatch(cluster)
    watch.start()
    study, number = submit(tiny, cluster, tmp_path, *([f"--time={MINUTES}"] if how == "limit" else []))
    if how == "signal":
        wait_until(lambda: distributed_jobs(cluster) or number not in cluster.live_jobs())
        cluster.call("scancel", "--batch", "--signal=USR1", str(number))
    wait_until(lambda: number not in cluster.live_jobs())
    watch.stop()
    assert cluster.squeue()[number] == "COMPLETED", study.said
    assert restarts(cluster, number) >= 1
    assert max(watch.most.values()) == 1, watch.most
    if how == "signal":
        assert "attached to Slurm job" in study.said, study.said
    assert study.tables() == OnSlurm(tiny, cluster.env).tables()
    wait_until_nothing_lives(cluster, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("words", [("--batch", "--signal=TERM"), ()])
def test_a_cancelled_controller_takes_its_jobs_with_it(words, tiny, cluster, tmp_path):
    study, number = submit(tiny, cluster, tmp_path)
    wait_until(lambda: distributed_jobs(cluster) or number not in cluster.live_jobs())
    cluster.call("scancel", *words, str(number))
    wait_until(lambda: number not in cluster.live_jobs())
    assert not (study.run.results / "tables" / "summary.md").exists()
    wait_until_nothing_lives(cluster, tmp_path)
