"""Convert result tables published with "Effects of Scale on Language Model Robustness" to runs.parquet."""

import hardscale.runtime.pinned  # noqa: F401

import argparse
from pathlib import Path

from hardscale.analysis.published import DEFENSE, runs_from_published
from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.schemas import RUNS
from hardscale.artifacts.tables import write_table
from hardscale.runtime.console import console


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluation", type=Path, required=True, help=".csv or .csv.gz")
    parser.add_argument("--training", type=Path, help="training table of the defended models")
    parser.add_argument("--task", required=True, help="imdb, spam, password_match, ...")
    parser.add_argument("--attack-kind", required=True, help="gcg, random_token, beast")
    parser.add_argument("--position", default="suffix", help="suffix, infix90, prefix")
    parser.add_argument("--family", default="pythia")
    parser.add_argument("--defense", default=DEFENSE, help="name of the defense of rounds >= 1")
    parser.add_argument(
        "--apply-fudge", action="store_true", help="correct the compute of Pythia 12b as its authors do"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "import_published"):
        runs = runs_from_published(
            args.evaluation,
            args.task,
            args.attack_kind,
            args.position,
            args.family,
            args.training,
            args.apply_fudge,
            defense=args.defense,
        )
        with replacing(args.out) as draft:
            write_table(draft, runs, RUNS)


if __name__ == "__main__":
    main()
