"""Every job of a study, as the rules declare them: what it reads and writes, where its log and its state lie.

Made from :class:`hardscale.jobs.Jobs` alone, without Snakemake, so that looking at a large study takes a moment. Files
of the user that tasks and models are read from are left out: nothing here ever touches them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from hardscale.artifacts.manifest import MANIFEST
from hardscale.jobs import FIGURES, Jobs, manifest
from hardscale.paths import parse_part, round_name, undefended

PHASES = ("tasks", "base models", "finetune", "rounds", "attacks", "tables", "figures")
#: Rule -> stem of the tables that it writes.
_TABLES = {"collect": "runs", "fit": "fits", "claims": "claims", "summary": "summary"}


@dataclass(frozen=True)
class Step:
    """A job of the workflow; paths are relative to the working directory.

    Attributes:
        phase: one of ``PHASES``.
        rule: name of its rule.
        name: its wildcards, enough to tell it from the others of its rule.
        inputs: files that it reads; of an artefact the manifest.
        outputs: files that it writes; of an artefact the manifest.
        log: its log.
        benchmark: where Snakemake writes how long it took.
        state: private folder of a training job; None for other jobs.
        kind: jobs of one kind take about as long for each unit.
        units: how much of that work this job is.
    """

    phase: str
    rule: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    log: str
    benchmark: str
    state: str | None = None
    kind: tuple[str, ...] = ()
    units: float = 1.0

    @property
    def label(self) -> str:
        """Rule and wildcards."""
        return f"{self.rule} {self.name}".strip()

    @property
    def slurm_comment(self) -> str:
        """The comment that Snakemake's Slurm executor gives the job: rule and wildcards in the order of its output."""
        return f"rule_{self.rule}_wildcards_{self.name.replace('/', '_')}"


def plan(jobs: Jobs) -> list[Step]:
    """Every job of a study, in the order of the workflow."""
    return list(_Planner(jobs).steps())


def output_folder(path: str) -> str:
    """The artefact folder that a manifest stands for; of another file the file itself."""
    return path.removesuffix(f"/{MANIFEST}")


class _Planner:
    """Makes steps, phase by phase. Paths are text from early on: a large study has a quarter of a million of parts."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs, self._layout = jobs, jobs.layout
        self._root = str(jobs.layout.root)
        self._scales = list(dict.fromkeys((cell.family, cell.scale) for cell in jobs.cells))

    def steps(self) -> Iterator[Step]:
        yield from self._tasks()
        yield from self._bases()
        yield from self._pretrains()
        yield from self._finetunes()
        yield from self._rounds()
        attacks = list(self._attacks())
        yield from attacks
        yield from self._tables([output for step in attacks for output in step.outputs])
        yield from self._figures()

    def _step(
        self,
        phase: str,
        rule: str,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        place: str,
        state: str | None = None,
        kind: tuple[str, ...] = (),
        units: float = 1.0,
    ) -> Step:
        """A step whose log and benchmark lie at ``place``."""
        return Step(
            phase,
            rule,
            name,
            tuple(inputs),
            tuple(outputs),
            f"{self._root}/logs/{place}.log",
            f"{self._root}/benchmarks/{place}.tsv",
            None if state is None else f"{self._root}/state/{state}",
            (place.partition("/")[0], *kind),
            units,
        )

    def _tasks(self) -> Iterator[Step]:
        for task in dict.fromkeys(cell.task for cell in self._jobs.cells):
            outputs = [manifest(self._layout.task(task))]
            yield self._step("tasks", "prepare_task", task, [], outputs, f"prepare_task/{task}", kind=(task,))

    def _bases(self) -> Iterator[Step]:
        for kind in self._scales:
            name = "/".join(kind)
            outputs = [manifest(self._layout.base(*kind))]
            place = f"prepare_model/{name}"
            yield self._step("base models", "prepare_model", name, self._texts(*kind), outputs, place, kind=kind)

    def _pretrains(self) -> Iterator[Step]:
        for family, scale in self._scales:
            if self._jobs.study.families[family].pretrain is None:
                continue
            name = f"{family}/{scale}"
            inputs = [manifest(self._layout.base(family, scale)), *self._texts(family, scale)]
            outputs = [manifest(self._layout.base(family, scale, pretrained=True))]
            places = f"pretrain/{name}", f"pretrained/{name}"
            yield self._step("base models", "pretrain", name, inputs, outputs, *places, (family, scale))

    def _texts(self, family: str, scale: str) -> list[str]:
        """Tasks that a model before finetuning is made from."""
        return self._jobs.base_tasks(SimpleNamespace(family=family, scale=scale))

    def _finetunes(self) -> Iterator[Step]:
        for cell in self._jobs.cells:
            wildcards = SimpleNamespace(cell=cell.key)
            inputs = [self._jobs.cell_base(wildcards), self._jobs.cell_task(wildcards)]
            lineage, kind = undefended(cell).key, (cell.family, cell.scale)
            outputs = [manifest(self._layout.model(lineage, 0))]
            yield self._step("finetune", "finetune", cell.key, inputs, outputs, f"finetune/{cell.key}", lineage, kind)

    def _rounds(self) -> Iterator[Step]:
        for (first, last), lineages in self._jobs.blocks.items():
            rule = f"adversarial_rounds_{first:02d}_{last:02d}"
            numbers = [round_name(number) for number in range(first, last + 1)]
            start = self._jobs.block_start(first)
            for lineage in lineages:
                wildcards = SimpleNamespace(lineage=lineage.key)
                place = f"{lineage.key}/{numbers[0]}"
                rounds = str(self._layout.model(lineage.key, first)).removesuffix(numbers[0])
                yield self._step(
                    "rounds",
                    rule,
                    lineage.key,
                    [start(wildcards), self._jobs.cell_task(wildcards)],
                    [f"{rounds}{number}/{MANIFEST}" for number in numbers],
                    f"adversarial_rounds/{place}",
                    place,
                    (lineage.cell.family, lineage.cell.scale, lineage.defense),
                    len(numbers),
                )

    def _attacks(self) -> Iterator[Step]:
        tasks = {task: manifest(self._layout.task(task)) for task in self._jobs.study.tasks}
        for folder in map(str, self._jobs.attack_folders()):
            place = folder.removeprefix(f"{self._root}/attacks/")
            victim, _, part = place.rpartition("/")
            lineage, _, number = victim.rpartition("/")
            task, family, scale, *_ = lineage.split("/")
            attack, _, shards = parse_part(part)
            yield self._step(
                "attacks",
                "attack",
                f"{lineage}/{number.removeprefix('r')}/{part}",
                [f"{self._root}/models/{victim}/{MANIFEST}", tasks[task]],
                [f"{folder}/{MANIFEST}"],
                f"attack/{place}",
                kind=(family, scale, attack),
                units=1 / shards,
            )

    def _tables(self, attacks: list[str]) -> Iterator[Step]:
        runs = [str(self._layout.table("runs.parquet"))]
        for rule, stem in _TABLES.items():
            outputs = [table for table in self._jobs.tables() if Path(table).stem == stem]
            yield self._step("tables", rule, "", attacks if rule == "collect" else runs, outputs, rule)

    def _figures(self) -> Iterator[Step]:
        inputs = [str(self._layout.table(name)) for name in ("runs.parquet", "fits.parquet")]
        for name in FIGURES:
            outputs = [figure for figure in self._jobs.figures() if Path(figure).stem == name]
            yield self._step("figures", f"figure_{name}", "", inputs, outputs, f"figure/{name}")
