"""What many tiny jobs of Snakemake's Slurm executor take, each a Slurm job of its own: submissions a second, slurmctld.

A throw-away Slurm of one node and a Snakefile of jobs that touch a file, run with the settings of ``profiles/slurm``.
Needs Slurm's daemons (`.ci/run` has the packages) and /proc.

Example:
    python benchmarks/slurm_submissions.py --jobs 400
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "slurm"))

from cluster import Cluster
from configuration import Options

PROFILE = Path(__file__).parents[1] / "profiles" / "slurm"
SNAKEFILE = """
rule all:
    input:
        expand("out/{{i}}", i=range({n})),


rule piece:
    output:
        "out/{{i}}",
    resources:
        mem_mb=10,
        runtime=5,
    shell:
        "echo $SLURM_JOB_ID >> out/ran.{{wildcards.i}}; touch {{output}}"
"""
_SUBMITTED = re.compile(r"has been submitted with SLURM jobid (\S+)")
_SUBMISSIONS = re.compile(r"REQUEST_SUBMIT_BATCH_JOB\s+\(\s*\d+\) count:(\d+)\s+ave_time:(\d+)")


def start_controller(cluster: Cluster, folder: Path, n_jobs: int) -> psutil.Popen:
    """Snakemake in a folder and a session of its own; what it says is in ``said``."""
    (folder / "out").mkdir(parents=True)
    (folder / "Snakefile").write_text(SNAKEFILE.format(n=n_jobs))
    command = [sys.executable, "-m", "snakemake", "--profile", str(PROFILE)]
    with (folder / "said").open("w") as said:
        return psutil.Popen(
            command, cwd=folder, env={**cluster.env, "OMP_NUM_THREADS": "1"},
            stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip


def slurmctld_of(cluster: Cluster) -> list[psutil.Process]:
    """The processes of slurmctld."""
    daemons = json.loads((cluster.folder / "cluster.json").read_text())["daemons"]
    first = psutil.Process(next(daemon["pid"] for daemon in daemons if daemon["name"] == "slurmctld"))
    return [first, *first.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Processor time of processes and of their children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def watch(controller: psutil.Popen, said: Path, patience: float) -> list[float]:
    """Wait for the end; when each job was submitted, in seconds."""
    began, times = time.monotonic(), []
    while controller.poll() is None:
        now = time.monotonic() - began
        times += [now] * (len(_SUBMITTED.findall(said.read_text())) - len(times))
        if now > patience:
            raise SystemExit(f"not done after {patience:g} s: {said.read_text()[-2000:]}")
        time.sleep(0.2)
    return times


def check(folder: Path, n_jobs: int, status: int) -> None:
    """All are done, each was submitted once and ran once."""
    said = (folder / "said").read_text()
    numbers = _SUBMITTED.findall(said)
    done = sum((folder / "out" / str(i)).exists() for i in range(n_jobs))
    ran = [(folder / f"out/ran.{i}").read_text().split() for i in range(n_jobs) if (folder / f"out/ran.{i}").exists()]
    if status or done != n_jobs or len(numbers) != n_jobs or sorted(map(tuple, ran)) != sorted((n,) for n in numbers):
        raise SystemExit(f"status {status}, {done} of {n_jobs} done, {len(numbers)} submitted; {said[-2000:]}")


def measure(cluster: Cluster, folder: Path, n_jobs: int, patience: float) -> dict[str, Any]:
    """Run all jobs."""
    daemons, began = slurmctld_of(cluster), time.monotonic()
    before = cpu_seconds(daemons)
    controller = start_controller(cluster, folder, n_jobs)
    try:
        times = watch(controller, folder / "said", patience)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(controller.pid, signal.SIGKILL)
    seconds = time.monotonic() - began
    check(folder, n_jobs, controller.wait())
    first = max(1, min(n_jobs, 300) - 1)  # `jobs` of the profile: the rest waits for others to end
    found = _SUBMISSIONS.search(cluster.call("sdiag"))
    return {
        "seconds": round(seconds),
        "submitted_first": first + 1,
        "submissions_a_second": round(first / max(times[first] - times[0], 0.2), 1),
        "slurmctld_cpu_seconds": round(cpu_seconds(daemons) - before, 2),
        "slurmctld_percent_of_a_core": round(100 * (cpu_seconds(daemons) - before) / seconds, 2),
        "slurmctld_ms_a_submission": round(int(found[2]) / 1000, 2) if found else None,
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds until all must be done")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="submissions-") as place:
        options = Options(nodes=1, cpus=os.cpu_count() or 1, memory=8000)
        with Cluster(Path(place, "cluster"), options, owned=True) as cluster:
            version = cluster.call("sbatch", "--version").strip()
            told = measure(cluster, Path(place, "work"), args.jobs, args.patience)
    facts = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": f"python benchmarks/slurm_submissions.py --jobs {args.jobs}",
        "slurm": version,
        "cores": os.cpu_count(),
        "jobs": args.jobs,
    }
    print(json.dumps({**facts, **told}, indent=1))


if __name__ == "__main__":
    main()
