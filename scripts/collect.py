"""Collect every attack of a study into tables/runs.parquet."""

import hardscale.runtime.pinned  # noqa: F401

import argparse
import json
from pathlib import Path

from hardscale.analysis.outputs import write_csv
from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.schemas import RUNS
from hardscale.artifacts.tables import write_table
from hardscale.evaluation.collect import collect_runs
from hardscale.runtime.console import console


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help='{"study": name, "defense_kinds": {...}}')
    parser.add_argument("--root", type=Path, required=True, help="results/<study>")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "collect"):
        runs = collect_runs(args.root, args.spec["study"], args.spec["defense_kinds"])
        with replacing(args.out) as draft:
            write_table(draft, runs, RUNS.with_metadata(runs.schema.metadata))
        with replacing(args.csv) as draft:
            write_csv(runs.to_pandas(), draft)


if __name__ == "__main__":
    main()
