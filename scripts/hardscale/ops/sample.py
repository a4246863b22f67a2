"""Mode ``sample``: whether the code and the study of today still make the artifacts that are on disk.

Some finished jobs are run again by Snakemake, each in a scratch folder in which its inputs are the originals, so that
what differs was made differently by that job and not by one before it.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import MANIFEST, artifact_folder, verify
from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import ArtifactError, DataError
from hardscale.ops.differences import compare_artifacts
from hardscale.ops.outcome import BROKEN, DIFFERS, FAILED, SAME, Finding, StoppedError
from hardscale.ops.rates import FALSE_ALARM_RATE, Rates, artifact_rates, compare_rates, paired
from hardscale.ops.scratch import Workflow, last_error, link_surroundings, provide
from hardscale.plan import table
from hardscale.plan.jobs import Jobs
from hardscale.plan.steps import plan
from hardscale.plan.table import JobKind

#: Kinds of jobs of which every sample holds one.
TRAINING, ATTACK, OTHER = "training", "attack", "other"


@dataclass
class Sample:
    """Jobs to run again and what becomes of them.

    Attributes:
        directory: working directory with the originals.
        scratch: where they are made again, a folder a rule.
        root: ``results/<study>``, what names are relative to.
        exact: whether bytes must agree; else rates within what chance explains.
        log: gets everything that Snakemake says.
    """

    chosen: Sequence[Unit]
    workflow: Workflow
    directory: Path
    scratch: Path
    root: Path
    log: Path
    exact: bool = True
    false_alarm_rate: float = FALSE_ALARM_RATE
    findings: list[Finding] = field(default_factory=list)

    def run(self, reading: AbstractContextManager[Any]) -> list[Finding]:
        """Make the jobs again and compare; ``reading`` is held while the originals are read.

        Raises:
            StoppedError: another controller came, or a signal; nothing is left of what was made.
        """
        try:
            with reading:
                before = self._take()
            for rule in dict.fromkeys(unit.rule for unit in before):
                self._remake(rule, [unit for unit in before if unit.rule == rule])
        except StoppedError:
            self._clear()
            raise
        rates: list[Rates] = []
        for unit, manifests in before.items():
            for folder, manifest in manifests.items():
                if (self._place(unit) / folder / MANIFEST).is_file():
                    rates += self._compare(unit, folder, manifest)
        if rates:
            self.findings += compare_rates(rates, self.false_alarm_rate)
        if all(finding.good for finding in self.findings):
            self._clear()
        return self.findings

    def _clear(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # others' runs are in it
            self.scratch.parent.rmdir()

    def _place(self, unit: Unit) -> Path:
        # A rule's inputs are made by other rules, so a folder a rule keeps originals and remade ones apart.
        return self.scratch / unit.rule

    def _take(self) -> dict[Unit, dict[Path, dict[str, Any]]]:
        """Verify the originals, copy the inputs; the manifests of the originals."""
        taken: dict[Unit, dict[Path, dict[str, Any]]] = {}
        for unit in self.chosen:
            link_surroundings(self.directory, self._place(unit))
            try:
                for folder in unit.inputs:
                    provide(folder, self.directory, self._place(unit))
                taken[unit] = {folder: verify(self.directory / folder) for folder in unit.outputs}
            except ArtifactError as error:
                self.findings.append(Finding(self._name(unit.outputs[-1]), BROKEN, found=str(error)))
        return taken

    def _remake(self, rule: str, units: Sequence[Unit]) -> None:
        place = self._place(units[0])
        targets = [target for unit in units for target in unit.targets]
        # Inputs have no history here, and no other rule may touch them.
        limits = ["--allowed-rules", rule, "--rerun-triggers", "mtime", "--keep-going"]
        start = self.log.stat().st_size if self.log.is_file() else 0
        status = self.workflow.run(place, self.log, [*targets, *limits])
        for unit in units:
            if not all((place / folder / MANIFEST).is_file() for folder in unit.outputs):
                words = last_error(self.log, start) or f"snakemake ended with status {status}"
                self.findings.append(Finding(self._name(unit.outputs[-1]), FAILED, "made again", words))

    def _compare(self, unit: Unit, folder: Path, before: dict[str, Any]) -> list[Rates]:
        """Add a finding, or return the rates that are to be tested together with all others."""
        original, remade, name = self.directory / folder, self._place(unit) / folder, self._name(folder)
        try:
            if not self.exact:
                rates = paired(artifact_rates(original), artifact_rates(remade), f"{name}: ")
                if rates:
                    return rates
            difference = compare_artifacts(original, before, remade)
        except (ArtifactError, DataError) as error:
            self.findings.append(Finding(name, FAILED, "made again", str(error)))
            return []
        digest = before["self"][:12]
        if difference:
            text = "; ".join([*difference.notes, *difference.lines])
            self.findings.append(Finding(name, DIFFERS, digest, text, difference.max_difference))
        else:
            text = ", ".join([f"{len(before['files'])} file(s)", *difference.notes])
            self.findings.append(Finding(name, SAME, digest, text))
        return []

    def _name(self, folder: Path) -> str:
        return (self.directory / folder).relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Unit:
    """One job: what it reads and publishes, as folders relative to the working directory.

    Attributes:
        rule: name of its rule.
        kind: training, attack or other.
    """

    rule: str
    kind: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]

    @property
    def finished(self) -> bool:
        """Whether everything it reads and publishes is there."""
        return all((folder / MANIFEST).is_file() for folder in (*self.inputs, *self.outputs))

    @property
    def targets(self) -> list[str]:
        """What to ask Snakemake for: one output stands for the job."""
        return [(self.outputs[-1] / MANIFEST).as_posix()]


def units(jobs: Jobs) -> Iterator[Unit]:
    """Every job of the study that publishes artifacts."""
    for planned in plan(jobs):
        if planned.job.artifact:
            yield Unit(planned.rule, _kind(planned.job), _folders(planned.inputs), _folders(planned.outputs))


def _kind(job: JobKind) -> str:
    return TRAINING if job.training is not None else ATTACK if job is table.ATTACK else OTHER


def _folders(manifests: Sequence[str]) -> tuple[Path, ...]:
    return tuple(map(artifact_folder, manifests))


def choose(all_units: Sequence[Unit], count: int, seed: int) -> list[Unit]:
    """``count`` finished jobs drawn with a seed, at least one of training and one attack among them.

    Raises:
        StoppedError: fewer than two are asked for, or no training or no attack is finished.
    """
    if count < 2:
        raise StoppedError(f"sample {count}: found {count}, must be at least 2: one training job and one attack")
    finished = [unit for unit in all_units if unit.finished]
    draw = random.Random(derive_seed(seed, "sample"))
    chosen = []
    for kind in (TRAINING, ATTACK):
        candidates = [unit for unit in finished if unit.kind == kind]
        if not candidates:
            raise StoppedError(f"sample: no finished {kind} job to make again; run snakemake first")
        chosen.append(draw.choice(candidates))
    rest = [unit for unit in finished if unit not in chosen]
    chosen += draw.sample(rest, min(count - len(chosen), len(rest)))
    order = {unit: i for i, unit in enumerate(all_units)}
    return sorted(chosen, key=order.__getitem__)
