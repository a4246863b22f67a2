"""One run of cron: load the study and its reference, run the mode, record and print the result."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hardscale.artifacts.manifest import canonical_json, read_manifest
from hardscale.errors import ArtifactError, HardscaleError
from hardscale.ops.cli import study_from_files
from hardscale.ops.controller import find_controller
from hardscale.ops.drift import changes, has_gpu, host_facts
from hardscale.ops.outcome import BUSY, MEANING, OK, Finding, StoppedError, exit_status
from hardscale.ops.reference import Reference, artifacts, pin, read_reference
from hardscale.ops.scratch import RUNS, Workflow
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import StudyPaths
from hardscale.runtime.console import Progress, printable, say
from hardscale.settings.study import Study

_MOST_BAD, _MOST_GOOD, _MOST_CHANGES = 14, 6, 8
_WIDTH = 240
_DIGEST = re.compile(r"(content )?[0-9a-f]{12}")


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
        self.root_in = StudyPaths(self.study.name).root
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
    from hardscale.ops.reference import check

    reference = read_reference(this.reference)
    with undisturbed(this.directory):
        findings = check(this.root, reference, this.counting("check"))
    return findings, reference, f"check of {len(reference.artifacts)} artifacts, {len(reference.tables)} tables"


def _sample(this: Run) -> tuple[list[Finding], Reference | None, str]:
    from hardscale.ops.sample import Sample, choose, units

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
    """Whether bytes are compared: not if a GPU made the results or is used now."""
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
    from hardscale.ops.drift import append, draw

    folder = this.root / "drift"
    seed = getattr(this.args, "seed", None)
    record = append(folder / "drift.parquet", this.date, this.args.mode, findings, changed, seed)
    save(draw(record, this.study.name), png=folder / "drift.png")
    return [("record", folder / "drift.parquet"), ("figure", folder / "drift.png")]


@contextlib.contextmanager
def undisturbed(directory: Path) -> Iterator[None]:
    """Fail if a controller runs before or after this block. It takes no lock.

    Raises:
        StoppedError: with status 75, a controller works there before or after the stretch.
    """
    _free(directory)
    try:
        yield
    finally:
        _free(directory)  # what was found meanwhile, damage too, may be its work


def _free(directory: Path) -> None:
    found = find_controller(directory / ".snakemake")
    if found is not None and found.alive:
        line = f"{directory}: another controller works here ({found.text}); nothing was compared, try again later"
        raise StoppedError(line, BUSY)


def summary(
    title: str,
    date: datetime.datetime,
    findings: Sequence[Finding],
    changes: Sequence[str],
    since: str,
    places: Sequence[tuple[str, Path | str]] = (),
) -> str:
    """The page: under 40 lines, whatever was found.

    Args:
        title: study, mode and what the run was asked for.
        date: when it ran, UTC.
        findings: what was compared.
        changes: of the environment.
        since: what the changes are counted from.
        places: names and paths of what was written.
    """
    bad = [finding for finding in findings if not finding.good]
    good = [finding for finding in findings if finding.good]
    lines = [f"{title}, {date:%Y-%m-%d %H:%M} UTC: {len(good)} as expected, {len(bad)} not"]
    lines += [*_list(bad, _MOST_BAD), *_list(good, _MOST_GOOD)]
    lines.append(f"changed since {since}: {'nothing' if not changes else ''}".rstrip())
    lines += [f"  {change}" for change in changes[:_MOST_CHANGES]]
    lines += [f"  and {len(changes) - _MOST_CHANGES} more"] * (len(changes) > _MOST_CHANGES)
    lines += [f"{name}: {path}" for name, path in places]
    status = exit_status(findings)
    lines.append(f"exit {status}: {MEANING[status]}")
    return "\n".join(_cut(line) for line in lines)


def _list(findings: Sequence[Finding], most: int) -> list[str]:
    words = [finding.status if finding.good else finding.status.upper() for finding in findings]
    lines = [f"  {word:7s} {_line(finding)}" for word, finding in zip(words, findings, strict=True)]
    return [*lines[:most], *[f"  and {len(lines) - most} more in the record"] * (len(lines) > most)]


def _line(finding: Finding) -> str:
    if finding.good:
        return f"{finding.what}" + (f" ({finding.found})" if finding.found else "")
    told = finding.expected and not _DIGEST.fullmatch(finding.expected)  # a digest tells people nothing
    expected = f" (expected {finding.expected})" if told else ""
    return f"{finding.what}: {finding.found}{expected}"


def _cut(line: str) -> str:
    line = printable(" ".join(line.splitlines()))
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
