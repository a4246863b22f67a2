"""The throw-away cluster itself: it runs jobs, loses nodes, and leaves nothing behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import MARK, Cluster
from processes import all_pids, environment_of

from waiting import wait_until


def left_of(folder):
    return [pid for pid in all_pids() if environment_of(pid).get(MARK) == str(folder.resolve())]


def test_a_command_runs_on_both_nodes(cluster):
    shown = cluster.call("srun", "--nodes=2", "--ntasks-per-node=1", "sh", "-c", "echo $SLURMD_NODENAME")
    assert sorted(shown.split()) == cluster.node_names


def test_a_job_is_seen_while_it_lives_and_after(cluster):
    job = cluster.sbatch("sleep 3600")
    assert cluster.wait_for_state(job, "RUNNING") == "RUNNING"
    assert job in cluster.live_jobs()
    cluster.call("scancel", str(job))
    assert cluster.wait_for_state(job, "CANCELLED") == "CANCELLED"
    wait_until(lambda: job not in cluster.live_jobs(), "the job's end")


def test_slurm_is_found_without_the_variables_of_slurm(cluster):
    env = {name: value for name, value in cluster.env.items() if not name.startswith("SLURM_")}
    done = subprocess.run(["sinfo", "-h", "-o", "%R"], env=env, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"batch", "low", "high"}


def test_nothing_is_left_after_a_stop_with_a_stubborn_job(new_cluster):
    cluster = new_cluster(nodes=1)
    job = cluster.sbatch("trap '' TERM; sleep 3600 & setsid sleep 3601 & wait")
    cluster.wait_for_state(job, "RUNNING")
    # Three daemons and a helper, the step's daemon, the shell, two sleeps.
    wait_until(lambda: len(left_of(cluster.folder)) >= 8, "the job's processes")
    sockets = Path(re.search(r"socket=(\S+?)/munge.socket", cluster.conf.read_text())[1])
    assert sockets.is_dir()
    cluster.stop()
    assert left_of(cluster.folder) == []
    assert not sockets.exists()


def test_a_lost_node_loses_its_processes_and_its_job_is_requeued(new_cluster):
    cluster = new_cluster(nodes=2, gpus=1)
    first = cluster.node_names[0]
    job = cluster.sbatch("echo $CUDA_VISIBLE_DEVICES; sleep 3600", "--gres=gpu:1", f"--nodelist={first}")
    cluster.wait_for_state(job, "RUNNING")
    output = cluster.log / f"job-{job}.out"
    wait_until(lambda: output.exists() and output.read_text(), "output")
    before = set(left_of(cluster.folder))
    cluster.kill_node(cluster.node_names[0])
    assert cluster.wait_for_state(job, "PENDING") == "PENDING"
    gone = before - set(left_of(cluster.folder))
    assert len(gone) >= 4  # the node's daemon, the step's daemon, the shell, sleep
    cluster.revive_node(cluster.node_names[0])
    assert cluster.wait_for_state(job, "RUNNING") == "RUNNING"
    cluster.stop()


def test_by_hand(installed, tmp_path):
    script = [sys.executable, str(Path(__file__).with_name("cluster.py"))]
    try:
        subprocess.run([*script, "start", str(tmp_path), "--nodes", "1"], check=True)
        shell = f'eval "$({" ".join(script)} env {tmp_path})"; sinfo -h -N -p batch -o %N'
        assert subprocess.run(["sh", "-c", shell], capture_output=True, text=True).stdout.split() == ["127.0.0.1"]
    finally:
        subprocess.run([*script, "stop", str(tmp_path)], check=True)
    assert left_of(tmp_path) == []


def test_accounts_are_checked_where_there_is_accounting(accounting_cluster):
    job = accounting_cluster.sbatch("true", "--account=test")
    accounting_cluster.wait_for_state(job, "COMPLETED")
    with pytest.raises(Exception, match="Invalid account"):
        accounting_cluster.sbatch("true", "--account=nobody")


def test_a_cluster_ends_with_a_killed_session(installed, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from cluster import *\n"
        f"Cluster(Path({str(tmp_path)!r}), Options(nodes=1), owned=True).start(); print('up', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
        assert session.stdout.readline() == b"up\n"
        assert len(left_of(tmp_path)) >= 4
        session.kill()
    wait_until(lambda: left_of(tmp_path) == [], "the daemons' end")
    Cluster.attach(tmp_path).stop()
