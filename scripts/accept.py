"""Let today's code take over the artifacts that an earlier version made, when a sample of them comes out the same.

Exit status  0: accepted, or nothing to accept.  1: a job of the sample failed.  2: usage.  3: the results differ,
nothing was touched.  75: another controller works here. More in docs/upkeep.md.
"""

import argparse
import datetime
import sys
from pathlib import Path

from hardscale.ops.cron_arguments import iso_week
from hardscale.ops.outcome import StoppedError
from hardscale.runtime.console import console, say


def main() -> None:
    """Parse arguments and run; what stands after ``--`` goes to Snakemake as it is."""
    argv = sys.argv[1:]
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("config.yaml"), help="study file")
    parser.add_argument("--directory", type=Path, default=Path(), help="working directory, the one with results/")
    parser.add_argument(
        "--count", type=int, default=4, metavar="K", help="jobs to make again, at least 2; 4 when absent"
    )
    parser.add_argument("--seed", type=int, default=iso_week(datetime.date.today()), help="of the choice; the week")
    parser.add_argument(
        "--compare", choices=("exact", "rates"), default="exact", help="rates: within what chance explains"
    )
    parser.add_argument("--profile", help="Snakemake profile, e.g. slurm")
    parser.add_argument("--cores", help="cores; all of them when neither this nor a profile is given")
    args = parser.parse_args(argv[:cut])
    args.snakemake = argv[cut + 1 :]
    with console(None, "accept"):
        from hardscale.ops.accept import accept

        try:
            status = accept(args)
        except StoppedError as stop:
            say(f"error: {stop}")
            status = stop.status
    raise SystemExit(status)


if __name__ == "__main__":
    main()
