"""Measure what a chat model is good for besides being robust, and publish it."""

import argparse
import os
from pathlib import Path

from hardscale.artifacts.manifest import artifact_folder
from hardscale.evaluation.spec_check import settled_spec
from hardscale.runtime.console import console, say


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON: cell, defense, round, settings, seed; see utility_job.py")
    parser.add_argument("--victim", type=artifact_folder, required=True, help="model artifact of a chat model")
    parser.add_argument("--task", type=artifact_folder, required=True, help="task artifact of kind behaviors")
    parser.add_argument("--out", type=artifact_folder, required=True, help="folder to publish")
    parser.add_argument(
        "--root", default=os.environ.get("HARDSCALE_DATA"), help="data root in hub layout, for tables of questions"
    )
    parser.add_argument("--log", type=Path, help="file for everything but progress and errors")
    args = parser.parse_args()
    with console(args.log, f"utility {'/'.join(args.out.absolute().parts[-6:])}"):
        spec = settled_spec(args.spec)
        from hardscale.evaluation.utility_job import run_utility

        root = Path(args.root).expanduser() if args.root else None
        run_utility(args.victim, args.task, spec, args.out, root)
        say(f"utility published in {args.out}")


if __name__ == "__main__":
    main()
