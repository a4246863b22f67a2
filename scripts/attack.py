"""Run one attack on one model, or one shard of it, and publish its rows."""

import argparse
from pathlib import Path

from hardscale.artifacts.manifest import artifact_folder, read_manifest
from hardscale.console import console, say


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON: cell, attack, settings, seed, ...; see attack_job.py")
    parser.add_argument("--victim", type=artifact_folder, required=True, help="model artefact")
    parser.add_argument("--task", type=artifact_folder, required=True, help="task artefact")
    parser.add_argument("--out", type=artifact_folder, required=True, help="folder to publish")
    parser.add_argument("--shard", type=int, help="this shard, from 1; the spec's when absent")
    parser.add_argument("--shards", type=int, help="number of shards; the spec's when absent")
    parser.add_argument("--log", type=Path, help="file for everything but progress and errors")
    args = parser.parse_args()
    with console(args.log, f"attack {'/'.join(args.out.absolute().parts[-7:])}"):
        from hardscale.evaluation.attack_job import read_spec, run_attack_job

        spec = {"shard": 1, "shards": 1, **read_spec(args.spec)}
        spec |= {key: value for key in ("shard", "shards") if (value := getattr(args, key)) is not None}
        run_attack_job(args.victim, args.task, spec, args.out)
        facts = read_manifest(args.out)["facts"]
        say(f"{facts['attack']}: {facts['n_rows']} rows published in {args.out}")


if __name__ == "__main__":
    main()
