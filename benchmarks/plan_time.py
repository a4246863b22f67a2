"""How long Snakemake plans a study: two checkouts in turns, medians and their ratio.

Each run is ``snakemake -n --quiet`` in an empty working directory, so that all jobs are planned. The two take turns,
each first in every other pair, so that a machine that grows slower or faster tells on both. Beside the clock stands
processor time, which others on the machine hardly move.

Example:
    git worktree add /tmp/before 4862e0d
    python benchmarks/plan_time.py --old /tmp/before --new . --repeats 5
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Time:
    """Seconds that one run took.

    Attributes:
        clock: from start to end.
        processor: of the process and its children.
    """

    clock: float
    processor: float


def plan(checkout: Path, study: str) -> Time:
    """Plan a study with the code of a checkout.

    Args:
        checkout: folder with a Snakefile.
        study: study file, relative to the checkout.

    Raises:
        SystemExit: Snakemake refuses; its last words are passed on.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--configfile", study, "--directory", folder]
        # An editable installation of another checkout must not be found first.
        path = os.pathsep.join([str(checkout / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])])
        before, start = _processor(), time.monotonic()
        done = subprocess.run(
            command, cwd=checkout, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        clock, processor = time.monotonic() - start, _processor() - before
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise SystemExit("\n".join([f"error: {checkout}: snakemake -n ended with status {done.returncode}", *words]))
    return Time(clock, processor)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(old: Path, new: Path, study: str, repeats: int) -> tuple[list[Time], list[Time]]:
    """Times of both checkouts, in pairs that begin with the one and with the other by turns."""
    times: dict[Path, list[Time]] = {old: [], new: []}
    for number in range(repeats):
        for checkout in (old, new) if number % 2 == 0 else (new, old):
            taken = plan(checkout, study)
            times[checkout].append(taken)
            print(f"{checkout}: {taken.clock:.1f} s, processor {taken.processor:.1f} s", file=sys.stderr, flush=True)
    return times[old], times[new]


def table(old: list[Time], new: list[Time]) -> str:
    """Medians of both and new by old, in Markdown."""
    lines = ["| `snakemake -n` | old, s | new, s | new / old |", "|---|---|---|---|"]
    for label, values in (
        ("clock", [[one.clock for one in times] for times in (old, new)]),
        ("processor", [[one.processor for one in times] for times in (old, new)]),
    ):
        before, now = map(statistics.median, values)
        lines.append(f"| {label}, median of {len(old)} | {before:.2f} | {now:.2f} | {now / before:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Parse arguments, run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="a checkout")
    parser.add_argument("--new", type=Path, required=True, help="another one")
    parser.add_argument("--study", default="studies/pythia.yaml", help="study file in both")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each; a run takes minutes")
    args = parser.parse_args()
    old, new = args.old.resolve(), args.new.resolve()
    if old == new or args.repeats < 1:
        raise SystemExit("error: --old and --new must be two checkouts, --repeats at least 1")
    print(table(*compare(old, new, args.study, args.repeats)))


if __name__ == "__main__":
    main()
