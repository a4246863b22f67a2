"""Fit every scaling line of a table of runs: size, attack, defense, offense-defense and slope of slopes."""

import hardscale.runtime.pinned  # noqa: F401

import argparse
from pathlib import Path

import pyarrow as pa

from hardscale.analysis.fit import fit_all
from hardscale.analysis.outputs import write_csv
from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.schemas import FITS, RUNS
from hardscale.artifacts.tables import read_table, write_table
from hardscale.runtime.console import console, say
from hardscale.settings.headline import HELP, METAVAR, argument, entry_for


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a rate between 0 and 1, e.g. 0.05")
    return value


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="a table of the runs schema, from here or not")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--headline", type=argument, nargs="*", action="extend", default=[], metavar=METAVAR, help=HELP)
    parser.add_argument("--target-asr", type=_rate, nargs="+", action="extend", default=[], metavar="X")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "fit"):
        runs = read_table(args.runs, RUNS).to_pandas()
        headline = dict(args.headline)
        held = runs[["task", "attack", "defense"]].drop_duplicates().astype(str).itertuples(index=False, name=None)
        for entry in sorted(set(headline) - {entry_for(headline, *names) for names in held}):
            say(f"note: headline iteration of {entry!r}: {args.runs} holds nothing that this entry is for")
        fits = fit_all(runs, headline, args.target_asr or [0.02, 0.05])
        with replacing(args.out) as draft:
            write_table(draft, pa.Table.from_pandas(fits, preserve_index=False), FITS)
        if args.csv:
            with replacing(args.csv) as draft:
                write_csv(fits, draft)


if __name__ == "__main__":
    main()
