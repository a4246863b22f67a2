"""Collect what chat models are good for, the losses of the openings aimed at, and what defenses gain in them."""

import hardscale.runtime.pinned  # noqa: F401

import argparse
import json
from pathlib import Path

import pyarrow as pa

from hardscale.analysis.gains import GAINS, baseline_roles, gains
from hardscale.analysis.intervals import mean_interval
from hardscale.analysis.loss_correlation import CORRELATIONS, correlations
from hardscale.analysis.outputs import write_csv
from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.tables import write_table
from hardscale.evaluation import chat_tables as chats
from hardscale.runtime.console import console


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help='{"study": name, "defense_kinds": {...}}')
    parser.add_argument("--root", type=Path, required=True, help="results/<study>")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "collect_utility"):
        study = args.spec["study"], args.spec["defense_kinds"]
        attacks = chats.read_attacks(args.root, *study)
        _write(
            chats.utility_table(args.root, *study),
            chats.UTILITIES,
            args.out / "utility.parquet",
            args.out / "utility.csv",
        )
        losses = chats.loss_table(attacks, mean_interval)
        _write(losses, chats.LOSSES, args.out / "losses.parquet")
        _write(chats.worst_table(attacks), chats.WORST, args.out / "worst.parquet", args.out / "worst.csv")
        frames = (
            ("gains", gains(attacks, baseline_roles(args.root, attacks)), GAINS),
            ("correlations", correlations(losses.to_pandas()), CORRELATIONS),
        )
        for name, frame, schema in frames:
            table = pa.Table.from_pandas(frame, schema, preserve_index=False)
            _write(table, schema, args.out / f"{name}.parquet", args.out / f"{name}.csv")


def _write(table: pa.Table, schema: pa.Schema, parquet: Path, csv: Path | None = None) -> None:
    with replacing(parquet) as draft:
        write_table(draft, table, schema)
    if csv is not None:
        with replacing(csv) as draft:
            write_csv(table.to_pandas(), draft)


if __name__ == "__main__":
    main()
