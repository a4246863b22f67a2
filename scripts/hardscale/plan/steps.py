"""Every job of a study, as the rules declare them: what it reads and writes, where its log and its state lie.

Made from :class:`hardscale.plan.jobs.Jobs` alone, without Snakemake, so that looking at a large study takes a
moment. Files of the user that tasks and models are read from are left out: nothing here ever touches them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from hardscale.artifacts.manifest import MANIFEST
from hardscale.artifacts.rounds_plan import round_name
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import manifest, manifests, parse_part, undefended

PHASES = ("tasks", "base models", "finetune", "rounds", "attacks", "tables", "figures")
#: Rule -> stems of the tables that it writes.
_TABLES: dict[str, tuple[str, ...]] = {
    "collect": ("runs",),
    "fit": ("fits",),
    "claims": ("claims",),
    "cost": ("cost",),
    "summary": ("summary",),
    "collect_utility": ("utility", "losses", "gains", "worst", "correlations"),
}


@dataclass(frozen=True)
class PlannedJob:
    """A job of the workflow; paths are relative to the working directory.

    Attributes:
        phase: one of ``PHASES``.
        rule: name of its rule.
        name: its wildcards, enough to tell it from the others of its rule.
        inputs: files that it reads; of an artifact the manifest.
        outputs: files that it writes; of an artifact the manifest.
        log: its log.
        benchmark: where Snakemake writes how long it took.
        state: private folder of a training job; None for other jobs.
        kind: jobs of one kind take about as long for each unit.
        units: how much of that work this job is.
        records: folders that it leaves besides its outputs, which no other job reads.
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
    records: tuple[str, ...] = ()

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
        rounds = re.match(r"(adversarial_rounds)_(\d+)_(\d+)", self.rule)
        return f"{rounds[1]} {self.name} rounds {int(rounds[2])}-{int(rounds[3])}" if rounds else self.label

    @property
    def slurm_comment(self) -> str:
        """The comment that Snakemake's Slurm executor gives the job: rule and wildcards in the order of its output."""
        return f"rule_{self.rule}_wildcards_{self.name.replace('/', '_')}"


def plan(jobs: Jobs) -> list[PlannedJob]:
    """Every job of a study, in the order of the workflow."""
    return list(_Planner(jobs).steps())


def output_folder(path: str) -> str:
    """The artifact folder that a manifest stands for; of another file the file itself."""
    return path.removesuffix(f"/{MANIFEST}")


class _Planner:
    """Makes steps, phase by phase. Paths are text from early on: a large study has a quarter of a million of parts."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs, self._layout = jobs, jobs.layout
        self._grid, self._inputs = jobs.grid, jobs.inputs
        self._root = str(jobs.layout.root)
        scales = [*((cell.family, cell.scale) for cell in jobs.grid.cells), *jobs.measures.raters]
        self._scales = dict.fromkeys(scales)

    def steps(self) -> Iterator[PlannedJob]:
        attacks = list(self._attacks())  # first: they name further models
        yield from self._tasks()
        yield from self._bases()
        yield from self._pretrains()
        yield from self._finetunes()
        yield from self._rounds()
        yield from self._continuous()
        yield from attacks
        yield from self._utility()
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
        records: Sequence[str] = (),
    ) -> PlannedJob:
        """A step whose log and benchmark lie at ``place``."""
        return PlannedJob(
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
            tuple(records),
        )

    def _tasks(self) -> Iterator[PlannedJob]:
        for task in dict.fromkeys(cell.task for cell in self._grid.cells):
            outputs = [manifest(self._layout.task(task))]
            yield self._step("tasks", "prepare_task", task, [], outputs, f"prepare_task/{task}", kind=(task,))

    def _bases(self) -> Iterator[PlannedJob]:
        for kind in self._scales:
            name = "/".join(kind)
            outputs = [manifest(self._layout.base(*kind))]
            place = f"prepare_model/{name}"
            yield self._step("base models", "prepare_model", name, self._texts(*kind), outputs, place, kind=kind)

    def _pretrains(self) -> Iterator[PlannedJob]:
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
        return self._inputs.base_tasks(SimpleNamespace(family=family, scale=scale))

    def _finetunes(self) -> Iterator[PlannedJob]:
        for cell in self._grid.cells:
            wildcards = SimpleNamespace(cell=cell.key)
            inputs = [self._inputs.cell_base(wildcards), self._inputs.cell_task(wildcards)]
            lineage, kind = undefended(cell).key, (cell.family, cell.scale)
            chat = self._jobs.study.is_chat(cell.task)
            rule, place, state = ("import_model", "adopt", None) if chat else ("finetune", "finetune", lineage)
            outputs = [manifest(self._layout.model(lineage, 0))]
            yield self._step("finetune", rule, cell.key, inputs, outputs, f"{place}/{cell.key}", state, kind)

    def _continuous(self) -> Iterator[PlannedJob]:
        chat = self._jobs.chat
        made = [("import_external", "adopt", lineage, 1) for lineage in chat.external()]
        made += [("continuous", "continuous", lineage, 1) for lineage in chat.trained()]
        made += [(block.name, "c_at", lineage, block.last) for block in chat.c_at_blocks for lineage in block.lineages]
        start = self._inputs.block_start(1)
        for rule, place, lineage, last in made:
            wildcards = SimpleNamespace(lineage=lineage.key)
            adopted = place == "adopt"
            before = self._inputs.cell_base(SimpleNamespace(cell=lineage.cell.key)) if adopted else start(wildcards)
            yield self._step(
                "rounds",
                rule,
                lineage.key,
                [before, self._inputs.cell_task(wildcards)],
                [manifest(self._layout.model(lineage.key, number)) for number in range(1, last + 1)],
                f"{place}/{lineage.key}",
                None if adopted else lineage.key,
                (lineage.cell.family, lineage.cell.scale, lineage.defense),
            )

    def _utility(self) -> Iterator[PlannedJob]:
        measures = self._jobs.measures
        for folder in map(str, [*self._jobs.chat.utility_folders(), *measures.folders()]):
            rule, _, place = folder.removeprefix(f"{self._root}/").partition("/")
            lineage, _, number = place.rpartition("/")
            task, family, scale, *_ = lineage.split("/")
            helpers = measures.rating_models() if rule == "mt_bench" else []
            yield self._step(
                "attacks",
                rule,
                f"{lineage}/{number.removeprefix('r')}",
                [f"{self._root}/models/{place}/{MANIFEST}", manifest(self._layout.task(task)), *helpers],
                [f"{folder}/{MANIFEST}"],
                f"{rule}/{place}",
                kind=(family, scale, rule),
            )

    def _rounds(self) -> Iterator[PlannedJob]:
        for block in self._grid.blocks:
            numbers = [round_name(number) for number in range(block.first, block.last + 1)]
            kept = [round_name(number) for number in block.kept]
            start = self._inputs.block_start(block.first)
            for lineage in block.lineages:
                wildcards = SimpleNamespace(lineage=lineage.key)
                place = f"{lineage.key}/{numbers[0]}"
                pruned = [number for number in numbers if number not in kept]
                rounds = str(self._layout.model(lineage.key, block.first)).removesuffix(numbers[0])
                yield self._step(
                    "rounds",
                    block.name,
                    lineage.key,
                    [start(wildcards), self._inputs.cell_task(wildcards)],
                    [f"{rounds}{number}/{MANIFEST}" for number in kept],
                    f"adversarial_rounds/{place}",
                    place,
                    (lineage.cell.family, lineage.cell.scale, lineage.defense),
                    len(numbers),
                    [rounds + number for number in pruned],
                )

    def _helpers(self, lineage: str, part: str) -> list[str]:
        """Other models of an attack; looking for them takes time that a large study without any would waste."""
        if not self._jobs.helpers.needed:
            return []
        scales = dict.fromkeys(self._jobs.helpers.scales(lineage, part).values())  # one model may play two roles
        self._scales.update(scales)
        return manifests(self._grid.base(*scale) for scale in scales)

    def _attacks(self) -> Iterator[PlannedJob]:
        tasks = {task: manifest(self._layout.task(task)) for task in self._jobs.study.tasks}
        for folder in map(str, self._grid.attack_folders()):
            place = folder.removeprefix(f"{self._root}/attacks/")
            victim, _, part = place.rpartition("/")
            lineage, _, number = victim.rpartition("/")
            task, family, scale, *_ = lineage.split("/")
            attack, _, shards = parse_part(part)
            yield self._step(
                "attacks",
                "attack",
                f"{lineage}/{number.removeprefix('r')}/{part}",
                [f"{self._root}/models/{victim}/{MANIFEST}", tasks[task], *self._helpers(lineage, part)],
                [f"{folder}/{MANIFEST}"],
                f"attack/{place}",
                kind=(family, scale, attack),
                units=1 / shards,
            )

    def _tables(self, attacks: list[str]) -> Iterator[PlannedJob]:
        chat, outputs_of = self._jobs.chat, self._jobs.outputs_of
        measured = [*chat.attack_folders(), *chat.utility_folders(), *self._jobs.measures.folders()]
        inputs = {
            "collect": attacks,
            "cost": self._grid.defended_models(),
            "collect_utility": manifests(measured),
        }
        runs = [str(self._layout.table("runs.parquet"))]
        for rule, stems in _TABLES.items():
            outputs = [table for table in outputs_of.tables() if Path(table).stem in stems]
            if outputs:
                yield self._step("tables", rule, "", inputs.get(rule, runs), outputs, rule)

    def _figures(self) -> Iterator[PlannedJob]:
        outputs_of = self._jobs.outputs_of
        inputs = [str(self._layout.table(name)) for name in ("runs.parquet", "fits.parquet")]
        for name in outputs_of.figure_names:
            outputs = [figure for figure in outputs_of.figures() if Path(figure).stem == name]
            more = outputs_of.tables_of(name)
            yield self._step("figures", f"figure_{name}", "", [*inputs, *more], outputs, f"figure/{name}")
