"""Slurm's controller goes away in the middle of a study and comes back."""

import re
import signal
import time

import pytest
from runs import TABLES, OnSlurm, QueueWatch, wait_until_nothing_lives

from waiting import HANG_SECONDS, wait_until

_OUTAGE_SECONDS = 40


def running(cluster, prefix):
    """Whether a job whose name begins like this runs."""
    rows = cluster.call("squeue", "-h", "-t", "R", "-o", "%j", check=False).splitlines()
    return any(row.startswith(prefix) for row in rows)


@pytest.mark.long
@pytest.mark.parametrize(
    ("prefix", "how"),
    [("hs-", signal.SIGTERM), ("hs-", signal.SIGKILL), ("hardscale_", signal.SIGTERM)],
    ids=["ranks", "distributed job, state of seconds lost", "attacks"],
)
def test_an_outage_costs_no_distributed_job_and_at_most_the_same_command_again(
    tiny, new_cluster, tmp_path, prefix, how
):
    cluster = new_cluster(nodes=2, cpus=2, memory=16_000)  # retries ask for more
    study = OnSlurm(tiny.elsewhere(tmp_path), cluster.env)
    watch = QueueWatch(cluster)
    watch.start()
    controller = study.start()
    wait_until(lambda: running(cluster, prefix) or controller.poll() is not None)
    time.sleep(6 if how == signal.SIGKILL else 0)  # Slurm saves its jobs every five seconds
    cluster.end_slurmctld(how)
    time.sleep(_OUTAGE_SECONDS)
    if prefix == "hs-":
        wait_until(lambda: "Slurm does not answer" in study.said, "a word on the outage")
    cluster.begin_slurmctld()
    if controller.wait(HANG_SECONDS) != 0:  # Snakemake gives up attacks that it cannot submit three times
        assert "Error in rule attack" in study.said, study.said
        assert study.finish() == 0, study.said
    watch.stop()
    distributed_jobs = re.findall(
        r"^\[(finetune|adversarial_rounds) [^]]*\] submitted as Slurm job", study.said, re.MULTILINE
    )
    assert sorted(distributed_jobs) == ["adversarial_rounds", "finetune"], study.said
    assert not re.search(r"^Error in rule (finetune|adversarial)", study.said, re.MULTILINE), study.said
    assert max(watch.most.values()) == 1, watch.most
    assert study.tables() == {name: (tiny.results / "tables" / name).read_bytes() for name in TABLES}
    verified = study.run.snakemake("verify")
    assert verified.status == 0, verified.text
    wait_until_nothing_lives(cluster, tmp_path)
