"""Write tables/claims: what a study supports, with intervals."""

import hardscale.runtime.pinned  # noqa: F401

import argparse
from pathlib import Path

import pyarrow as pa

from hardscale.analysis.attacked import artifact_folders, read_attacks, read_clean
from hardscale.analysis.claims import CLAIMS, claims
from hardscale.analysis.outputs import write_csv
from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.schemas import RUNS
from hardscale.artifacts.tables import read_table, write_table
from hardscale.runtime.console import console
from hardscale.settings.headline import HELP, METAVAR, argument


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--attacks", type=Path, nargs="*", default=[], help="attack folders or folders of them")
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="model folders or folders of them")
    parser.add_argument("--headline", type=argument, nargs="*", action="extend", default=[], metavar=METAVAR, help=HELP)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "claims"):
        runs = read_table(args.runs, RUNS).to_pandas()
        attacks, clean = read_attacks(artifact_folders(args.attacks)), read_clean(artifact_folders(args.models))
        table = claims(runs, attacks, dict(args.headline), clean)
        with replacing(args.out) as draft:
            write_table(draft, pa.Table.from_pandas(table, preserve_index=False), CLAIMS)
        if args.csv:
            with replacing(args.csv) as draft:
                write_csv(table, draft)


if __name__ == "__main__":
    main()
