"""Fit every scaling line of a table of runs: size, attack, defence, offense-defense and slope of slopes."""

import argparse
from pathlib import Path

import pyarrow as pa

from hardscale.analysis.csv import write_csv
from hardscale.analysis.fit import fit_all
from hardscale.analysis.outputs import replacing
from hardscale.artifacts.schemas import FITS, RUNS
from hardscale.artifacts.tables import read_table, write_table
from hardscale.console import console, say


def _headline(text: str) -> tuple[str, int]:
    attack, sign, iteration = text.rpartition("=")
    if not (attack and sign and iteration.isdecimal() and int(iteration) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: give ATTACK=ITERATION, e.g. gcg=10")
    return attack, int(iteration)


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
    parser.add_argument("--headline", type=_headline, nargs="*", action="extend", default=[], metavar="ATTACK=ITER")
    parser.add_argument("--target-asr", type=_rate, nargs="+", action="extend", default=[], metavar="X")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "fit"):
        runs = read_table(args.runs, RUNS).to_pandas()
        for attack in sorted({name for name, _ in args.headline} - set(runs["attack"])):
            say(f"note: headline iteration of {attack!r}, an attack that {args.runs} does not hold")
        fits = fit_all(runs, dict(args.headline), args.target_asr or [0.02, 0.05])
        with replacing(args.out) as draft:
            write_table(draft, pa.Table.from_pandas(fits, preserve_index=False), FITS)
        if args.csv:
            with replacing(args.csv) as draft:
                write_csv(fits, draft)


if __name__ == "__main__":
    main()
