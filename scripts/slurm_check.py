"""Would this study run on this Slurm cluster with this profile? One line a check; what `make slurm-check` calls."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from hardscale.ops.cli import study_from_files
from hardscale.ops.profile import read_profile
from hardscale.ops.slurm_check import (
    CheckedSetup,
    CheckResult,
    controller,
    disk,
    jobs,
    optimizers,
    partitions,
    requeue,
    settings,
    status,
    verdict,
)
from hardscale.ops.slurm_trial import probe
from hardscale.runtime.console import console


def main() -> None:
    """Parse arguments and ask; exit status 1 when something must be fixed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path("config.yaml"))
    parser.add_argument("--profile", type=Path, default=Path("profiles/slurm"))
    parser.add_argument("--directory", type=Path, default=Path(), help="where the study will run")
    parser.add_argument("--probe", action=argparse.BooleanOptionalAction, default=True, help="run a tiny job on a node")
    parser.add_argument("--wait", type=float, default=300.0, help="seconds that the tiny job may wait in the queue")
    args = parser.parse_args()
    found: list[CheckResult] = []
    with console(None, ""):
        now = CheckedSetup(study_from_files([args.study]), read_profile(args.profile))
        os.chdir(args.directory)
        for finding in _checks(now, args.probe, args.wait):
            found.append(finding)
            print(finding, flush=True)
        print(verdict(found))
    raise SystemExit(any(finding.level == "FAIL" for finding in found))


def _checks(now: CheckedSetup, with_probe: bool, wait: float) -> Iterator[CheckResult]:
    yield from controller(now)
    if not now.config:
        return  # nobody to ask
    for check in (settings, optimizers, partitions, jobs, status, requeue, disk):
        yield from check(now)
    if with_probe:
        yield from probe(now, wait)


if __name__ == "__main__":
    main()
