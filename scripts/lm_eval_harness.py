"""Measure a chat model with lm-evaluation-harness, in the interpreter that has it, and publish what it finds."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from hardscale.artifacts.manifest import artifact_folder
from hardscale.runtime.console import console, say
from hardscale.runtime.instruction_set import KEY, PINNED, settle


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--spec", type=json.loads, required=True, help="cell, defense, round, settings; see lm_eval_job.py"
    )
    parser.add_argument("--victim", type=artifact_folder, required=True, help="model artifact of a chat model")
    parser.add_argument("--task", type=artifact_folder, required=True, help="task artifact of kind behaviors")
    parser.add_argument("--out", type=artifact_folder, required=True, help="folder to publish")
    parser.add_argument("--root", default=os.environ.get("HARDSCALE_DATA"), help="data root, for a folder of tasks")
    parser.add_argument("--log", type=Path, help="file for everything but progress and errors")
    args = parser.parse_args()
    # The worker is a process of its own, which ends with this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with console(args.log, f"lm_eval {'/'.join(args.out.absolute().parts[-6:])}"):
        settle(args.spec.get(KEY, PINNED))  # for the worker too, which inherits the environment
        from hardscale.evaluation.lm_eval_job import run_lm_eval

        root = Path(args.root).expanduser() if args.root else None
        run_lm_eval(args.victim, args.task, args.spec, args.out, root)
        say(f"published in {args.out}")


if __name__ == "__main__":
    main()
