"""What a controller with many waiting jobs takes of a small head: memory, processor time, questions to Slurm.

A throw-away Slurm of one node, which another job holds, and a study of one small model for each seed:
``snakemake --profile slurm`` starts a driver for each, all their jobs wait. Then the controller is stopped as by
Ctrl-C, and every job must be gone. Needs Slurm's daemons (`.ci/run` has the packages) and /proc.

Example:
    python benchmarks/drivers.py --jobs 200 --seconds 60
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "slurm"))

from cluster import Cluster
from configuration import Options

ROOT = Path(__file__).parents[1]
LIMIT_MB = 60.0
_DRIVER = "scripts/finetune.py"
#: Questions about jobs, as slurmctld counts them.
_ASKED = re.compile(r"^\s*REQUEST_\w*JOB\w*INFO\w*\s+\(\s*\d+\) count:(\d+)", re.MULTILINE)


def write_study(folder: Path, n_jobs: int) -> Path:
    """The tiny study with a model for every seed."""
    cells = {"tasks": ["password_match"], "families": ["nano"], "scales": ["30k"], "seeds": list(range(n_jobs))}
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump({"name": "many", "extends": str(ROOT / "studies" / "tiny.yaml"), "grid": [cells]}))
    return path


def start_controller(cluster: Cluster, study: Path, log: Path) -> psutil.Popen:
    """``snakemake --profile slurm`` in a folder and a session of its own."""
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--configfile", str(study)]
    with log.open("w") as out:
        return psutil.Popen(
            # A shell's background job ignores Ctrl-C, and so would all that it starts.
            ["env", "--default-signal=INT", *command, "--directory", str(study.parent)],
            cwd=ROOT, env={**cluster.env, "OMP_NUM_THREADS": "1"}, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip


def drivers_of(controller: psutil.Process) -> list[psutil.Process]:
    """The processes that wait for distributed jobs. A shell that stays beside one counts as well; bash leaves none."""
    found = []
    for process in controller.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if _DRIVER in " ".join(process.cmdline()):
                found.append(process)
    return found


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Processor time of processes and of their children that have ended."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def memory(processes: list[psutil.Process]) -> dict[str, float]:
    """MB: resident (pages that processes share count in each), and proportional (they count once in all)."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.append(process.memory_full_info())
    rss, pss = ([getattr(info, kind) / 2**20 for info in found] for kind in ("rss", "pss"))
    return {
        "n": len(found),
        "rss_median": round(statistics.median(rss), 1),
        "rss_max": round(max(rss), 1),
        "pss_median": round(statistics.median(pss), 1),
        "pss_max": round(max(pss), 1),
        "pss_sum": round(sum(pss), 1),
    }


def questions(cluster: Cluster) -> int:
    """How often slurmctld was asked about jobs since it started."""
    return sum(int(count) for count in _ASKED.findall(cluster.call("sdiag")))


def distributed_jobs(cluster: Cluster) -> list[str]:
    """Labels of distributed jobs in the queue."""
    rows = cluster.call("squeue", "-h", "-t", "PD,R,CF,CG", "-o", "%j|%k").splitlines()
    return [row.partition("|")[2] for row in rows if re.match(r"hs-[0-9a-f]{12}\|", row)]


def wait_for_jobs(cluster: Cluster, controller: psutil.Popen, n_jobs: int, log: Path, patience: float) -> float:
    """Wait until all are in the queue; seconds from the first to the last."""
    first, deadline = 0.0, time.monotonic() + patience
    while (found := len(distributed_jobs(cluster))) < n_jobs:
        first = first or (time.monotonic() if found else 0.0)
        if controller.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{found} of {n_jobs} distributed jobs are in the queue; {log.read_text()[-2000:]}")
        time.sleep(1.0)
    return time.monotonic() - (first or time.monotonic())


def measure(cluster: Cluster, folder: Path, n_jobs: int, seconds: float, patience: float) -> dict[str, Any]:
    """Start, watch and stop."""
    log, began = folder / "controller.log", time.monotonic()
    controller = start_controller(cluster, write_study(folder, n_jobs), log)
    try:
        spread = wait_for_jobs(cluster, controller, n_jobs, log, patience)
        until_all = time.monotonic() - began
        time.sleep(15.0)  # what began last has settled
        watched = {"drivers": drivers_of(controller), "controller": [controller]}
        asked, start = questions(cluster), time.monotonic()
        before = {name: cpu_seconds(processes) for name, processes in watched.items()}
        time.sleep(seconds)
        passed, asked = time.monotonic() - start, questions(cluster) - asked
        share = {n: round(100 * (cpu_seconds(p) - before[n]) / passed, 1) for n, p in watched.items()}
        told = {
            "drivers_mb": memory(watched["drivers"]),
            "controller_mb": memory([controller]),
            "percent_of_a_core": share,
            "questions_a_minute": round(60 * asked / passed, 1),
        }
        labels = distributed_jobs(cluster)
        if len(set(labels)) != len(labels) or len(labels) != n_jobs:
            raise SystemExit(f"{len(labels)} jobs of {len(set(labels))} cells are in the queue, must be {n_jobs}")
    finally:
        stopping = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(controller.pid, signal.SIGINT)
        controller.wait(patience)
    ended = time.monotonic() - stopping
    if left := distributed_jobs(cluster):
        raise SystemExit(f"{len(left)} distributed jobs are left in the queue")
    times = {"until_all_wait": until_all, "first_to_last": spread, "until_all_cancelled": ended}
    return {**told, "seconds": {name: round(value) for name, value in times.items()}}


def main() -> None:
    """Measure and print one JSON object; status 1 when a driver is larger than it may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they are watched")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds until all wait, and until all are gone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drivers-") as place:
        work = Path(place, "work")
        work.mkdir()
        with Cluster(Path(place, "cluster"), Options(nodes=1, cpus=1, memory=8000), owned=True) as cluster:
            blocker = cluster.sbatch("sleep 100000", "--exclusive", "--time=1000")
            cluster.wait_for_state(blocker, "RUNNING")
            told = measure(cluster, work, args.jobs, args.seconds, args.patience)
    facts = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": f"python benchmarks/drivers.py --jobs {args.jobs} --seconds {args.seconds:g}",
        "cores": os.cpu_count(),
        "jobs": args.jobs,
    }
    print(json.dumps({**facts, **told}, indent=1))
    if told["drivers_mb"]["rss_max"] > LIMIT_MB:
        raise SystemExit(f"a driver takes {told['drivers_mb']['rss_max']} MB, asked are {LIMIT_MB:g}")


if __name__ == "__main__":
    main()
