"""Slurm falls silent while jobs of Snakemake's executor run: none is lost, none comes twice, and Ctrl-C is heard."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runs import QUICK, end_with_test, wait_until_nothing_lives

from waiting import HANG_SECONDS, wait_until

ROOT = Path(__file__).parents[2]
ATTEMPTS = 2
#: As ours, of jobs that end when they are told to. {keep} is the call that the Snakefile makes.
SNAKEFILE = """
import sys

sys.path.insert(0, {scripts!r})
from hardscale.ops.controller import cancel_left, stop_on_signals
from hardscale.launch.silent_looks import keep_jobs_when_slurm_is_silent


onstart:
    stop_on_signals()
    {keep}


onerror:
    cancel_left(workflow)


rule all:
    input:
        expand("out/{{i}}", i=range(2)),


rule piece:
    output:
        "out/{{i}}",
    shell:
        "echo $SLURM_JOB_ID >> ran.{{wildcards.i}}; until [ -e go ]; do sleep 1; done; touch {{output}}"
"""
KEEP = "keep_jobs_when_slurm_is_silent()"
#: What is installed, and what goes away.
OUTAGES = {
    "no sacct": ("nothing", ["slurmctld"]),
    "sacct without a database": ("sacct", ["slurmctld"]),
    "sacct with a database": ("database", ["slurmctld"]),
    "sacct with a database that goes too": ("database", ["slurmctld", "slurmdbd"]),
    "sacct is asked and its database goes": ("database", ["slurmdbd"]),
}


def without_sacct(path, folder):
    """A PATH with all programs but sacct."""
    folder.mkdir()
    for place in path.split(os.pathsep):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            if program.name != "sacct" and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    assert shutil.which("sacct", path=str(folder)) is None
    return str(folder)


class Run:
    """Snakemake with the profile's settings on two jobs that run until ``go``."""

    def __init__(self, cluster, folder, *options, keep=KEEP, **env):
        self.folder, self._cluster = folder / "run", cluster
        self.folder.mkdir()
        (self.folder / "Snakefile").write_text(SNAKEFILE.format(scripts=str(ROOT / "scripts"), keep=keep))
        words = ["snakemake", "--profile", str(ROOT / "profiles/slurm"), *QUICK, "--verbose", *options]
        with (self.folder / "said").open("w") as said:
            self.controller = subprocess.Popen(
                ["env", "--default-signal=INT", sys.executable, "-m", *words],
                cwd=self.folder,
                env={**cluster.env, "HARDSCALE_ACCOUNT": "test", **env},
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        end_with_test(self.controller)
        wait_until(lambda: all(self.jobs()), "two jobs that run", [self.controller])
        wait_until(lambda: "Status query returned 2 job IDs" in self.said, "a look at them", [self.controller])

    @property
    def said(self):
        return (self.folder / "said").read_text()

    def jobs(self):
        """Slurm jobs that ran for each output."""
        files = [self.folder / f"ran.{i}" for i in range(2)]
        return [file.read_text().split() if file.exists() else [] for file in files]

    @property
    def unanswered(self):
        return self.said.count("could not check status")

    def go(self):
        (self.folder / "go").touch()


def begin(cluster, installed, tmp_path, *gone, **more):
    """A run, and then the outage."""
    options = ["--slurm-status-attempts", str(ATTEMPTS)]
    if "slurmctld" not in gone:
        options += ["--slurm-status-command", "sacct"]
    path = {"PATH": without_sacct(cluster.env["PATH"], tmp_path / "bin")} if installed == "nothing" else {}
    run = Run(cluster, tmp_path, *options, **path, **more)
    for daemon in gone:
        cluster.end_daemon(daemon)
    return run


@pytest.fixture(scope="module")
def clusters(new_cluster):
    """The clusters of this module by what is installed."""
    found = {}

    def one(installed):
        accounting = installed == "database"
        if accounting not in found:
            found[accounting] = new_cluster(nodes=1, cpus=2, memory=16_000, accounting=accounting)
        return found[accounting]

    return one


@pytest.mark.parametrize(
    "outage",
    [each if each == "sacct without a database" else pytest.param(each, marks=pytest.mark.long) for each in OUTAGES],
)
def test_no_job_is_lost_in_an_outage(outage, clusters, tmp_path):
    installed, gone = OUTAGES[outage]
    cluster = clusters(installed)
    run = begin(cluster, installed, tmp_path, *gone)
    asked = run.said.count("Falling back to 'sacct'")
    if outage == "sacct with a database":  # which answers for the controller
        wait_until(lambda: run.said.count("Falling back to 'sacct'") >= asked + 2, "two looks", [run.controller])
    else:
        wait_until(lambda: run.unanswered >= 3 * ATTEMPTS, "looks without an answer", [run.controller])
    run.go()
    wait_until(lambda: all((run.folder / f"out/{i}").exists() for i in range(2)), "the jobs' end", [run.controller])
    for daemon in reversed(gone):
        cluster.begin_daemon(daemon)
    assert run.controller.wait(HANG_SECONDS) == 0, run.said
    assert [len(jobs) for jobs in run.jobs()] == [1, 1], run.said
    assert len(re.findall("has been submitted", run.said)) == 2, run.said
    wait_until_nothing_lives(cluster, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("outage", ["no sacct", "sacct without a database", "sacct is asked and its database goes"])
def test_ctrl_c_is_heard_in_an_outage(outage, clusters, tmp_path):
    installed, gone = OUTAGES[outage]
    cluster = clusters(installed)
    run = begin(cluster, installed, tmp_path, *gone)
    wait_until(lambda: run.unanswered >= ATTEMPTS + 1, "a look without an answer", [run.controller])
    before = run.unanswered
    os.killpg(run.controller.pid, signal.SIGINT)
    assert run.controller.wait(HANG_SECONDS) == 1, run.said
    assert run.unanswered <= before + 2 * ATTEMPTS, "it goes on to look"
    assert not list((run.folder / ".snakemake/locks").glob("*")), "the folder is unlocked"
    if "slurmctld" in gone:  # nobody could cancel them
        assert re.search("Slurm does not answer|Unable to cancel jobs with scancel", run.said), run.said
        run.go()
    for daemon in reversed(gone):
        cluster.begin_daemon(daemon)
    wait_until_nothing_lives(cluster, tmp_path)
    assert [len(jobs) for jobs in run.jobs()] == [1, 1], run.said
