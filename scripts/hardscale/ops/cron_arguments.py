"""The command line of ``cron.py``. Standard library only."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

from hardscale.ops.outcome import MEANING

_DESCRIPTION = """\
Is the study still what it was? check: re-hash what is on disk and compare with the pinned reference; no job runs.
sample K: make K finished artifacts again in a scratch folder. full: make the whole study again in runs/<date>.
pin: make what is on disk the reference."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options; what stands after ``--`` goes to Snakemake as it is (``snakemake``)."""
    argv = list(argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    statuses = "  ".join(f"{status}: {meaning}." for status, meaning in MEANING.items())
    command = argparse.ArgumentParser(prog="cron.py", description=_DESCRIPTION, epilog=f"Exit status  {statuses}")
    modes = command.add_subparsers(dest="mode", required=True, metavar="check | sample | full | pin")
    _common(modes.add_parser("check", help="compare results on disk with the reference"))
    pin = modes.add_parser("pin", help="pin results on disk as the reference")
    _common(pin)
    pin.add_argument("--replace", action="store_true", help="replace an earlier pin")
    sample = modes.add_parser("sample", help="make some finished artifacts again and compare")
    sample.add_argument("count", type=int, metavar="K", help="jobs, at least 2: one of training and one attack")
    sample.add_argument("--seed", type=int, default=iso_week(datetime.date.today()), help="of the choice; the week")
    full = modes.add_parser("full", help="make the whole study again and compare")
    full.add_argument("--into", type=Path, help="folder, e.g. of a run to resume; runs/<date> when absent")
    for parser in (sample, full):
        _common(parser)
        parser.add_argument("--profile", help="Snakemake profile, e.g. slurm")
        parser.add_argument("--cores", help="cores; all of them when neither this nor a profile is given")
        compare = parser.add_argument_group("comparison")
        choices = ("auto", "exact", "rates")
        compare.add_argument("--compare", choices=choices, default="auto", help="auto: exact without a GPU")
        compare.add_argument("--false-alarm-rate", type=_rate, default=0.01, help="of all rates of a run together")
    options = command.parse_args(argv[:cut])
    options.snakemake = argv[cut + 1 :]
    return options


def iso_week(day: datetime.date) -> int:
    """A number that is another one every week: 202647 is week 47 of 2026."""
    year, week, _ = day.isocalendar()
    return 100 * year + week


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", type=Path, default=Path("config.yaml"), help="study file")
    parser.add_argument("--directory", type=Path, default=Path(), help="working directory, the one with results/")
    parser.add_argument("--reference", type=Path, help="pinned reference; results/<study>/reference.json when absent")


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, must be a number above 0 and below 1")
    return value
