"""Run one attack on one model, or one shard of it, and publish its rows."""

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from hardscale.artifacts.lease import lease
from hardscale.artifacts.manifest import artifact_folder, read_manifest
from hardscale.evaluation.spec_check import settled_spec
from hardscale.runtime.console import console, say


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON: cell, attack, settings, seed, ...; see attack_spec.py")
    parser.add_argument("--victim", type=artifact_folder, required=True, help="model artifact")
    parser.add_argument("--task", type=artifact_folder, required=True, help="task artifact")
    parser.add_argument("--out", type=artifact_folder, required=True, help="folder to publish")
    parser.add_argument("--shard", type=int, help="this shard, from 1; the spec's when absent")
    parser.add_argument("--shards", type=int, help="number of shards; the spec's when absent")
    parser.add_argument("--helper", action="append", default=[], metavar="ROLE=PATH", help="another model; repeat")
    parser.add_argument("--root", default=os.environ.get("HARDSCALE_DATA"), help="data root, for texts of judges")
    parser.add_argument("--leases", type=Path, help="folder of leases: wait for a job that makes the same artifact")
    parser.add_argument("--code", default="", help="digest of the attack's code; equal digests give equal results")
    parser.add_argument("--log", type=Path, help="file for everything but progress and errors")
    args = parser.parse_args()
    # Not on the spot: the draft and the lease are removed on the way out.
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    with console(args.log, "attack " + "/".join(args.out.absolute().parts[-7:])):
        alone = lease(args.out, args.leases, "attack", args.code) if args.leases else contextlib.nullcontext()
        with alone as held:
            _run(args, held)


def _run(args: argparse.Namespace, held: Any) -> None:
    given = {key: value for key in ("shard", "shards") if (value := getattr(args, key)) is not None}
    spec = {"shard": 1, "shards": 1, **settled_spec(args.spec), **given}
    from hardscale.evaluation.attack_spec import read_helpers
    from hardscale.tasks.chat import KIND

    helpers = read_helpers(args.helper)
    inputs = {"victim": args.victim, "task": args.task, **helpers}
    if held is not None and held.done_before(args.out, "attack", spec, inputs):
        say(f"another job has published it in {args.out}; nothing left to do")
        return
    if read_manifest(args.task)["facts"].get("kind") == KIND:
        from hardscale.evaluation.chat_attack_job import run_chat_attack_job as run
    else:
        from hardscale.evaluation.attack_job import run_attack_job as run
    run(args.victim, args.task, spec, args.out, helpers, Path(args.root).expanduser() if args.root else None)
    say(f"{spec['attack']}: {read_manifest(args.out)['facts']['n_rows']} rows published in {args.out}")


if __name__ == "__main__":
    main()
