"""Write tables/cost: what every defense cost in passes, FLOPs and time."""

import hardscale.runtime.pinned  # noqa: F401

import argparse
import json
from pathlib import Path

import pyarrow as pa

from hardscale.analysis.cost import COST, cost_table
from hardscale.analysis.outputs import write_csv
from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.tables import write_table
from hardscale.runtime.console import console


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help='{"study": name, "defense_kinds": {...}}')
    parser.add_argument("--root", type=Path, required=True, help="results/<study>")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--csv", type=Path, required=True, help="also with the seconds of an update")
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "cost"):
        table = cost_table(args.root, args.spec["defense_kinds"])
        with replacing(args.out) as draft:
            write_table(draft, pa.Table.from_pandas(table[COST.names], schema=COST, preserve_index=False), COST)
        with replacing(args.csv) as draft:
            write_csv(table, draft)


if __name__ == "__main__":
    main()
