"""Measure a chat model with MT-Bench, rated by another model or a function of the user, and publish the ratings."""

import argparse
import os
import sys
from pathlib import Path

from hardscale.artifacts.manifest import artifact_folder
from hardscale.evaluation.spec_check import settled_spec
from hardscale.runtime.console import console, say


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON: cell, defense, round, settings, seed; see mt_bench_job.py")
    parser.add_argument("--victim", type=artifact_folder, required=True, help="model artifact of a chat model")
    parser.add_argument("--task", type=artifact_folder, required=True, help="task artifact of kind behaviors")
    parser.add_argument("--judge", type=artifact_folder, nargs="?", help="model artifact that rates; none: a function")
    parser.add_argument("--out", type=artifact_folder, required=True, help="folder to publish")
    parser.add_argument("--root", default=os.environ.get("HARDSCALE_DATA"), help="data root, for the questions")
    parser.add_argument("--log", type=Path, help="file for everything but progress and errors")
    args = parser.parse_args()
    with console(args.log, f"mt_bench {'/'.join(args.out.absolute().parts[-6:])}"):
        spec = settled_spec(args.spec)
        from hardscale.evaluation.mt_bench_job import run_mt_bench

        sys.path.append(str(Path.cwd()))  # a user's own judge may lie beside the results
        root = Path(args.root).expanduser() if args.root else None
        run_mt_bench(args.victim, args.task, spec, args.out, root, args.judge)
        say(f"published in {args.out}")


if __name__ == "__main__":
    main()
