"""Run a study to its figures and its report, then say where they are. What `make study` calls."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from hardscale.artifacts import paths
from hardscale.ops.cli import study_from_files
from hardscale.plan.jobs import Jobs


def main() -> None:
    """Parse arguments and run; the exit status is Snakemake's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path("config.yaml"))
    parser.add_argument("--cores", default="all")
    parser.add_argument("--only-report", action="store_true")
    args = parser.parse_args()
    jobs = Jobs(study_from_files([args.study]))
    layout = jobs.layout
    start = time.monotonic()
    if not args.only_report:
        _snakemake(args, "--rerun-incomplete", "--quiet", "rules", "host")
    report = layout.root / "report.html"
    _snakemake(args, "--report", str(report), "--quiet", "all")
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    print(f"\n{layout.study}: finished in {minutes} min {seconds} s")
    print(f"figures: {layout.root / paths.top(paths.FIGURE)}/ ({', '.join(jobs.outputs_of.figure_names)})")
    print(f"tables:  {layout.root / paths.top(paths.TABLE)}/ (summary.md to read, runs.parquet to analyze)")
    print(f"report:  {report}")


def _snakemake(args: argparse.Namespace, *options: str) -> None:
    # The default study is the workflow's own; naming another one replaces it.
    chosen = [] if args.study == Path("config.yaml") else ["--configfile", str(args.study)]
    command = [sys.executable, "-m", "snakemake", "--cores", args.cores, *chosen, *options]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
