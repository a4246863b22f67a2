"""Let a new version of the code take over what an earlier one published, after a sample of it was made again.

Only what Snakemake recorded of the jobs is written (:mod:`hardscale.ops.reruns`), a record at a time; what was found is
written down before the first and after the last one, so a run that is killed is resumed by the next.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import getpass
import json
import os
import random
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardscale.artifacts.seeds import derive_seed
from hardscale.ops.acceptance import Assessment, CodeChange, judge, publishes
from hardscale.ops.cli import study_from_files
from hardscale.ops.controller import claim
from hardscale.ops.cron import undisturbed
from hardscale.ops.drift import host_facts
from hardscale.ops.outcome import DAMAGED, DRIFT, OK, Finding, StoppedError, exit_status
from hardscale.ops.reruns import SeenJob, read_plan, rewrite
from hardscale.ops.sample import ATTACK, TRAINING, Sample, Unit, choose, units
from hardscale.ops.scratch import RUNS, Workflow
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import StudyPaths
from hardscale.runtime.console import Progress, printable

_BEGUN, _DONE = "begun", "done"
_MOST = 10
_WIDTH = 240
_MEANING = {
    OK: "accepted",
    DAMAGED: "an artifact of the sample could not be made again; nothing was accepted",
    DRIFT: "this code makes other results; nothing was accepted",
}


class Acceptance:
    """One run: the study in its working directory, which is this process's from here on, held like a controller."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.file: Path = args.study.absolute()
        study = study_from_files([self.file])
        self.directory: Path = args.directory.resolve()
        if not self.directory.is_dir():
            raise StoppedError(f"--directory {args.directory}: no such folder; name the one that holds results/")
        os.chdir(self.directory)
        self.root_in = StudyPaths(study.name).root
        if not self.root_in.is_dir():
            raise StoppedError(f"{self.directory / self.root_in}: no results to accept; run snakemake first")
        if args.count < 2:
            raise StoppedError(f"--count {args.count}: must be at least 2: one training job and one attack")
        claim(self.directory / ".snakemake", [])
        self.study = study.name
        self.units = list(units(Jobs(study)))
        self.date = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        stamp = f"{self.date:%Y-%m-%dT%H%M%S}"
        self.scratch = self.directory / RUNS / f"accept-{stamp}"
        self.log = self.directory / self.root_in / "logs" / "accept" / f"{stamp}.log"
        self.record = self.directory / self.root_in / "accepted.jsonl"

    def plan(self) -> list[SeenJob]:
        """What Snakemake would run."""
        return read_plan(self.file, self.directory, self.log)

    def judged(self, seen: Sequence[SeenJob]) -> Assessment:
        """Every artifact hashed and decided on, with progress for people."""
        if not sys.stderr.isatty():
            return judge(seen, self.units, self.root_in)
        progress = Progress(sum(map(publishes, seen)), "verify", "job")
        result = judge(seen, self.units, self.root_in, progress.update)
        progress.close()
        return result

    def sample(self, assessment: Assessment) -> Sample:
        """The jobs to make again; see :func:`draw`."""
        options = ["--profile", self.args.profile] if self.args.profile else []
        cores = self.args.cores or (None if self.args.profile else "all")
        return Sample(
            chosen=draw(assessment, self.units, self.args.count, self.args.seed),
            workflow=Workflow(self.file, (*options, *(["--cores", cores] if cores else []), *self.args.snakemake)),
            directory=self.directory,
            scratch=self.scratch,
            root=self.directory / self.root_in,
            log=self.log,
            exact=self.args.compare == "exact",
        )

    def entry(self, assessment: Assessment, names: Sequence[str], facts: dict[str, str]) -> dict[str, Any]:
        """A line of the record."""
        counts = Counter(assessment.taken.values())
        return {
            "date": self.date.isoformat(),
            "state": _BEGUN,
            "study": self.study,
            "who": f"{_user()}@{socket.gethostname()}",
            "seed": self.args.seed,
            "count": self.args.count,
            "compare": self.args.compare,
            "sample": list(names),
            "kinds": [{**_kind_fields(kind), "jobs": counts[kind]} for kind in sorted(counts)],
            "taken_over": len(assessment.taken),
            "left": [{"what": left.folder, "why": left.why} for left in assessment.left],
            "versions": facts,
        }


def accept(args: argparse.Namespace) -> int:
    """Do what the command line says and print a page; the exit status.

    Raises:
        StoppedError: nothing was looked at; it holds the exit status.
    """
    this = Acceptance(args)
    seen = this.plan()
    if not any(job.differs for job in seen if publishes(job)):
        print(page(this, Assessment(), [], "nothing to accept: no artifact was made by other code", after=seen))
        return OK
    assessment = this.judged(seen)
    if not assessment.taken:
        print(page(this, assessment, [], "nothing can be accepted", after=seen))
        return OK
    facts = host_facts()
    entry = this.entry(assessment, [], facts)
    before = unfinished(this.record, entry)
    findings: list[Finding] = []
    if before:
        entry.update({name: before[name] for name in ("sample", "seed", "count")})
        title = (
            f"resumed what began {before['date']}, with its sample of {len(before['sample'])}, seed {before['seed']}"
        )
    else:
        sample = this.sample(assessment)
        entry["sample"] = [unit.outputs[-1].relative_to(this.root_in).as_posix() for unit in sample.chosen]
        findings = sample.run(undisturbed(this.directory))
        title = f"sample of {len(sample.chosen)} jobs, seed {args.seed}"
        status = exit_status(findings)
        if status:
            print(page(this, assessment, findings, f"REFUSED, {title}", status, seen))
            return status
    append(this.record, entry)
    take_over(assessment)
    append(this.record, {**entry, "state": _DONE})
    after = this.plan()
    print(page(this, assessment, findings, f"{len(assessment.taken)} jobs accepted, {title}", after=after))
    return OK


def draw(assessment: Assessment, all_units: Sequence[Unit], count: int, seed: int) -> list[Unit]:
    """Jobs whose code changed, drawn with a seed: ``count``, and one more for each kind that is not among these.

    A training job and an attack are always among them, if need be one whose code did not change.
    """
    by_output = {unit.outputs[0]: unit for unit in all_units}
    changed = {by_output[Path(job.outputs[0]).parent]: kind for job, kind in assessment.taken.items()}
    sound = {by_output[Path(job.outputs[0]).parent]: None for job in assessment.sound}
    pool = [unit for unit in all_units if unit in sound]
    lacking = {TRAINING, ATTACK} - {unit.kind for unit in changed}
    pool = [unit for unit in pool if unit in changed or unit.kind in lacking]
    chosen = choose(pool, count, seed)
    chance = random.Random(derive_seed(seed, "accept"))
    for kind in sorted(set(changed.values()) - {changed[unit] for unit in chosen if unit in changed}):
        chosen.append(chance.choice([unit for unit in changed if changed[unit] == kind]))
    return [unit for unit in all_units if unit in set(chosen)]


def take_over(assessment: Assessment) -> None:
    """Let Snakemake's records say that today's code made the artifacts."""
    for job in assessment.taken:
        for output, change in job.changes.items():
            if change:
                rewrite(output, change, job.command)


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add a line to the record, on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(entry, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def unfinished(path: Path, entry: dict[str, Any]) -> dict[str, Any] | None:
    """The last line of the record where it stands for a run that was killed while it took over these kinds of jobs."""
    last: dict[str, Any] | None = None
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):  # a line that was not written to its end
            last = json.loads(line)
    if last is None or last.get("state") != _BEGUN:
        return None
    same = all(last.get(name) == entry[name] for name in ("versions", "compare"))
    known = [{name: kind[name] for name in kind if name != "jobs"} for kind in last["kinds"]]
    wanted = [{name: kind[name] for name in kind if name != "jobs"} for kind in entry["kinds"]]
    return last if same and all(kind in known for kind in wanted) else None


def page(
    this: Acceptance,
    assessment: Assessment,
    findings: Sequence[Finding],
    title: str,
    status: int = OK,
    after: Sequence[SeenJob] = (),
) -> str:
    """What happened, for people, in fewer than 50 lines."""
    lines = [f"{this.study}: {title}, {this.date:%Y-%m-%d %H:%M} UTC"]
    good = {finding.what for finding in findings if finding.good}
    told = [
        f"  {finding.status.upper():7s} {finding.what}: {finding.found}" for finding in findings if not finding.good
    ]
    lines += [*_some(told), *_some([f"  same    {name}" for name in sorted(good)])]
    counts = Counter(assessment.taken.values())
    lines += _some([f"  {counts[kind]:5d} {kind}" for kind in sorted(counts)])
    if assessment.left:
        lines.append(f"not taken over: {len(assessment.left)}")
        lines += _some([f"  {left.folder}: {left.why}" for left in assessment.left])
    planned = [job for job in after if job.planned]
    n_artifacts = sum(map(publishes, planned))
    lines.append(
        f"snakemake -n now plans {n_artifacts} artifact job(s) and {len(planned) - n_artifacts} of tables and figures"
    )
    places = {"record": this.record, "log": this.log, "made again in": this.scratch}
    lines += [f"{name}: {path}" for name, path in places.items() if path.exists()]
    lines.append(f"exit {status}: {_MEANING[status]}" if counts or status else "exit 0: nothing was changed")
    return "\n".join(_cut(line) for line in lines)


def _some(lines: Sequence[str]) -> list[str]:
    return [*lines[:_MOST], *[f"  and {len(lines) - _MOST} more"] * (len(lines) > _MOST)]


def _cut(line: str) -> str:
    line = printable(" ".join(line.splitlines()))
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


def _kind_fields(kind: CodeChange) -> dict[str, Any]:
    return {"rule": kind.rule, "before": kind.before, "after": kind.after, "command": kind.command}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        return str(os.getuid())
