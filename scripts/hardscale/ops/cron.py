"""One run of cron: find the study and its reference, do the mode, record it, say it on one page."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hardscale.artifacts.manifest import canonical_json, read_manifest
from hardscale.errors import ArtifactError, HardscaleError
from hardscale.ops.cli import study_from_files
from hardscale.ops.outcome import OK, Finding, StoppedError, exit_status
from hardscale.ops.reference import Reference, pin, read_reference
from hardscale.ops.scratch import RUNS, Workflow
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import Layout
from hardscale.reproduce.guard import undisturbed
from hardscale.reproduce.host import changes, has_gpu, host_facts
from hardscale.reproduce.inventory import artifacts
from hardscale.reproduce.mail import summary
from hardscale.runtime.console import Progress, say
from hardscale.settings.study import Study


class Run:
    """What a command line means: paths are absolute, ``results`` those of the study in the working directory."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.file = args.study.absolute()
        self.study: Study = study_from_files([self.file])
        # Before the working directory changes: the command line's paths mean where it was given.
        given = args.reference.absolute() if args.reference else None
        self.into = args.into.absolute() if getattr(args, "into", None) else None
        self.directory = args.directory.resolve()
        if not self.directory.is_dir():
            raise StoppedError(f"--directory {args.directory}: no such folder; name the one that holds results/")
        os.chdir(self.directory)
        self.root_in = Layout(self.study.name).root
        self.root = self.directory / self.root_in
        self.reference = given or self.root / "reference.json"
        self.date = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.scratch = self.directory / RUNS / f"sample-{self.date:%Y-%m-%dT%H%M%S}"
        self.log = self.root / "logs" / "cron" / f"{self.date:%Y-%m-%dT%H%M%S}-{args.mode}.log"

    def facts(self) -> dict[str, str]:
        """Facts of the machine, and a digest of the study."""
        study = canonical_json(self.study.model_dump(mode="json"))
        return {**host_facts(), "study": hashlib.sha256(study.encode()).hexdigest()[:16]}

    def counting(self, label: str) -> Callable[[], None]:
        """Progress over the artifacts, for people; mail gets none."""
        if not sys.stderr.isatty():
            return lambda: None
        return Progress(len(artifacts(self.root)), label, "artifact").update

    @property
    def workflow(self) -> Workflow:
        """Snakemake with the options of the command line."""
        args = self.args
        options = ["--profile", args.profile] if args.profile else []
        cores = args.cores or (None if args.profile else "all")
        options += ["--cores", cores] if cores else []
        return Workflow(self.file, (*options, *args.snakemake))


def run(args: argparse.Namespace) -> int:
    """Do what the command line says; the exit status.

    Raises:
        StoppedError: nothing was compared; it holds the exit status.
    """
    this = Run(args)
    if args.mode == "pin":
        return _pin(this)
    findings, reference, title = {"check": _check, "sample": _sample, "full": _full}[args.mode](this)
    facts = this.facts()
    changed = changes(reference.facts, facts) if reference else []
    since = f"the pin of {reference.pinned[:10]}" if reference else "the pin (there is none: cron.py pin)"
    places: list[tuple[str, Path | str]] = []
    try:
        places += _record(this, findings, changed)
    except HardscaleError as error:  # what was found is said all the same
        places.append(("record", f"NOT WRITTEN: {error}"))
    places += [(name, path) for name, path in (("log", this.log), ("made again in", this.scratch)) if path.exists()]
    print(summary(f"{this.study.name}: {title}", this.date, findings, changed, since, places))
    return exit_status(findings)


def _check(this: Run) -> tuple[list[Finding], Reference | None, str]:
    from hardscale.reproduce.check import check

    reference = read_reference(this.reference)
    with undisturbed(this.directory):
        findings = check(this.root, reference, this.counting("check"))
    return findings, reference, f"check of {len(reference.artifacts)} artifacts, {len(reference.tables)} tables"


def _sample(this: Run) -> tuple[list[Finding], Reference | None, str]:
    from hardscale.ops.sample import Sample
    from hardscale.reproduce.units import choose, units

    reference = read_reference(this.reference) if this.reference.is_file() else None
    chosen = choose(list(units(Jobs(this.study))), this.args.count, this.args.seed)
    sample = Sample(
        chosen=chosen,
        workflow=this.workflow,
        directory=this.directory,
        scratch=this.scratch,
        root=this.root,
        log=this.log,
        exact=_exact(this, reference),
        false_alarm_rate=this.args.false_alarm_rate,
    )
    findings = sample.run(undisturbed(this.directory))
    return findings, reference, f"sample of {len(chosen)} jobs, seed {this.args.seed}"


def _full(this: Run) -> tuple[list[Finding], Reference | None, str]:
    from hardscale.ops.full import fresh_folder, full

    reference = read_reference(this.reference)
    folder = this.into or fresh_folder(this.directory, this.root_in, this.date.date())
    exact = _exact(this, reference)
    rate = this.args.false_alarm_rate
    findings = full(this.workflow, this.directory, folder, this.root_in, reference, this.log, exact, rate)
    return findings, reference, f"full run in {folder}"


def _exact(this: Run, reference: Reference | None) -> bool:
    """Whether bytes must agree: not where a GPU made the results or makes them now."""
    if this.args.compare != "auto":
        return this.args.compare == "exact"
    facts = [host_facts(), *([reference.facts] if reference else [])]
    for folder in artifacts(this.root):
        with contextlib.suppress(ArtifactError):
            facts.append(read_manifest(folder)["versions"])
    return not any(map(has_gpu, facts))


def _pin(this: Run) -> int:
    if this.reference.exists() and not this.args.replace:
        raise StoppedError(f"{this.reference}: there is a pin already; give --replace to forget it")
    with undisturbed(this.directory):
        reference = pin(this.root, this.reference, this.facts(), this.counting("pin"))
    say(f"pinned {len(reference.artifacts)} artifacts and {len(reference.tables)} tables: {reference.path}")
    return OK


def _record(this: Run, findings: list[Finding], changed: list[str]) -> list[tuple[str, Path]]:
    """Append to the record and draw it; names and paths of both."""
    from hardscale.figures.style import save
    from hardscale.ops.drift import append
    from hardscale.reproduce.drift_figure import draw

    folder = this.root / "drift"
    seed = getattr(this.args, "seed", None)
    record = append(folder / "drift.parquet", this.date, this.args.mode, findings, changed, seed)
    save(draw(record, this.study.name), png=folder / "drift.png")
    return [("record", folder / "drift.parquet"), ("figure", folder / "drift.png")]
