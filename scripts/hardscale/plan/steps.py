"""Every job of a study one by one: what it reads and writes, where its log and its state lie.

Made from the job table, without Snakemake, so that looking at a large study takes a moment. Files of the user that
tasks and models are read from are left out: nothing here ever touches them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import MANIFEST
from hardscale.plan.job import Job
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import Lineage, parse_part
from hardscale.plan.table import DEFENDED, JobKind


@dataclass(frozen=True)
class PlannedJob:
    """A job of the workflow; paths are relative to the working directory.

    Attributes:
        job: its entry of the job table.
        rule: name of its rule.
        name: its wildcards, enough to tell it from the others of its rule.
        inputs: files that it reads; of an artifact the manifest.
        outputs: files that it writes; of an artifact the manifest.
        log: its log.
        benchmark: where Snakemake writes how long it took.
        state: private folder of a distributed job; None for other jobs.
        kind: jobs of one kind take about as long for each unit.
        units: how much of that work this job is.
        records: folders that it leaves besides its outputs, which no other job reads.
        span: first and last round of a job that trains several.
    """

    job: JobKind
    rule: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    log: str
    benchmark: str
    state: str | None = None
    kind: tuple[str, ...] = ()
    units: float = 1.0
    records: tuple[str, ...] = ()
    span: tuple[int, int] | None = None

    @property
    def phase(self) -> str:
        """One of ``PHASES``."""
        return self.job.phase

    @property
    def folders(self) -> list[str]:
        """Everything that it leaves: the folders of its artifacts, other files as they are."""
        return [*map(output_folder, self.outputs), *self.records]

    @property
    def label(self) -> str:
        """Rule and wildcards."""
        return f"{self.rule} {self.name}".strip()

    @property
    def distributed_label(self) -> str:
        """The comment of the job that its driver submits: what the driver calls itself."""
        rounds = "" if self.span is None else f" rounds {self.span[0]}-{self.span[1]}"
        return f"{self.job.name} {self.name}{rounds}"

    @property
    def slurm_comment(self) -> str:
        """The comment that Snakemake's Slurm executor gives the job: rule and wildcards in the order of its output."""
        return f"rule_{self.rule}_wildcards_{self.name.replace('/', '_')}"


def plan(jobs: Jobs) -> list[PlannedJob]:
    """Every job of a study, in the order of the workflow."""
    return [planned for job in jobs.all() for planned in _planned(job)]


def output_folder(path: str) -> str:
    """The artifact folder that a manifest stands for; of another file the file itself."""
    return path.removesuffix(f"/{MANIFEST}")


def _planned(job: Job) -> Iterator[PlannedJob]:
    inputs, outputs = list(vars(job.inputs).values()), _flat(vars(job.outputs).values())
    log, benchmark, state = job.log, job.benchmark, job.state
    for wildcards in job.instances():
        filled = vars(wildcards)
        yield PlannedJob(
            job.kind,
            job.rule,
            "/".join(filled[name] for name in job.kind.wildcards),
            tuple(path for given in inputs for path in _read(given, wildcards)),
            tuple(path.format_map(filled) for path in outputs),
            log.format_map(filled),
            benchmark.format_map(filled),
            None if state is None else state.format_map(filled),
            (job.kind.place.partition("/")[0], *_alike(job.kind, wildcards)),
            _units(job, wildcards),
            tuple(path.format_map(filled) for path in _pruned(job)),
            None if job.rounds is None else (job.rounds.first, job.rounds.last),
        )


def _flat(values: Any) -> list[str]:
    return [path for value in values for path in ([value] if isinstance(value, str) else value)]


def _read(given: Any, wildcards: Any) -> list[str]:
    """The paths of an input of a rule: of a function, of a path with wildcards, or of several paths."""
    if callable(given):
        given = given(wildcards)
        return [given] if isinstance(given, str) else given
    return [given.format_map(vars(wildcards))] if isinstance(given, str) else given


def _alike(kind: JobKind, wildcards: Any) -> tuple[str, ...]:
    """What jobs that take about as long have in common."""
    if "lineage" in kind.wildcards:
        lineage = Lineage.parse(wildcards.lineage)
        place = (lineage.cell.family, lineage.cell.scale)
        if "part" in kind.wildcards:
            return (*place, parse_part(wildcards.part)[0])
        return (*place, lineage.defense) if kind.phase == DEFENDED else place
    if "cell" in kind.wildcards:
        return tuple(wildcards.cell.split("/")[1:3])
    return tuple(getattr(wildcards, name) for name in kind.wildcards)


def _units(job: Job, wildcards: Any) -> float:
    if job.rounds is not None:
        return job.rounds.last - job.rounds.first + 1
    return 1 / parse_part(wildcards.part)[2] if "part" in job.kind.wildcards else 1.0


def _pruned(job: Job) -> list[str]:
    """Folders of rounds of which only the record stays."""
    if job.rounds is None:
        return []
    numbers = set(range(job.rounds.first, job.rounds.last + 1)) - set(job.rounds.kept)
    template = f"{job.root}/{paths.MODEL}"
    return [template.replace("{round}", paths.round_number(number)) for number in sorted(numbers)]
