"""What a study holds: cells, models, blocks of rounds, the folders of their artifacts, and their settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hardscale.artifacts.rounds_plan import blocks, chosen_rounds
from hardscale.artifacts.seeds import derive_seed
from hardscale.plan import estimates, table
from hardscale.plan.paths import Lineage, StudyPaths, manifests, part_name, undefended
from hardscale.plan.table import JobKind
from hardscale.settings.attacks import AttackBase, EmbeddingAttack
from hardscale.settings.defenses import training_attack
from hardscale.settings.selection import EvaluateRow
from hardscale.settings.study import UNDEFENDED, Cell, Study
from hardscale.settings.training import FinetuneSettings

_Attack = TypeVar("_Attack", bound=AttackBase)
_NOTHING = "(?!)"


@dataclass(frozen=True)
class RoundBlock:
    """Consecutive rounds that one job trains, and the lineages that are trained so.

    Attributes:
        name: of the rule.
        first: round.
        last: round.
        kept: rounds among them whose weights stay on disk; the last is always one.
        lineages: of equal blocks.
    """

    name: str
    first: int
    last: int
    kept: tuple[int, ...]
    lineages: list[Lineage]


class StudyGrid:
    """The instances of a study that have jobs, where their artifacts lie, and how each is set."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.layout = StudyPaths(study.name)
        # Snakemake asks for the same spec several times; resolving a block validates it.
        self._defense_settings: dict[Lineage, Any] = {}
        self._attack_settings: dict[tuple[str, Cell], AttackBase] = {}

    # --- what exists ------------------------------------------------------------------------------------------------

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell of the grid."""
        return self.study.cells()

    @cached_property
    def evaluated(self) -> dict[tuple[str, int], dict[str, EvaluateRow]]:
        """(lineage key, round) -> attack name -> the row that asks for it."""
        found: dict[tuple[str, int], dict[str, EvaluateRow]] = {}
        for row in self.study.evaluate:
            for cell in self.cells:
                if not row.where.matches(cell.task, cell.family, cell.scale, cell.seed):
                    continue
                for defense in row.defenses:
                    lineage = Lineage(cell, defense)
                    numbers = [0] if defense == UNDEFENDED else chosen_rounds(row.rounds, self.n_rounds(lineage))
                    for number in numbers:
                        found.setdefault((lineage.key, number), {}).update(dict.fromkeys(row.attacks, row))
        return found

    @cached_property
    def defended(self) -> list[Lineage]:
        """Lineages of the defenses that some evaluation asks for."""
        keys = {key for key, _ in self.evaluated}
        lineages = [Lineage(cell, defense) for cell in self.cells for defense in self.study.defenses]
        return [lineage for lineage in lineages if lineage.key in keys]

    def defended_by(self, job: JobKind) -> list[Lineage]:
        """Those whose defense is made by jobs of this kind."""
        return [lineage for lineage in self.defended if self._job_of(lineage) == job.name]

    def _job_of(self, lineage: Lineage) -> str:
        return self.study.defenses[lineage.defense].job

    def n_rounds(self, lineage: Lineage) -> int:
        """Rounds of a lineage's defense: the models that it publishes."""
        return int(self.defense_settings(lineage).n_rounds)

    @cached_property
    def _in_rounds(self) -> list[Lineage]:
        """Lineages of adversarial training in rounds."""
        return self.defended_by(table.ROUNDS)

    def _blocks_of(self, lineage: Lineage) -> list[tuple[int, int]]:
        settings = self.defense_settings(lineage)
        return blocks(settings.rounds, settings.rounds_per_job or estimates.rounds_per_job(self.study, lineage.cell))

    @cached_property
    def blocks(self) -> list[RoundBlock]:
        """The jobs of adversarial training, those of equal rounds together."""
        found: dict[tuple[int, int, tuple[int, ...]], list[Lineage]] = {}
        for lineage in self._in_rounds:
            stay = self._kept_rounds(lineage)
            for first, last in self._blocks_of(lineage):
                kept = tuple(number for number in stay if first <= number <= last)
                found.setdefault((first, last, kept), []).append(lineage)
        names: Counter[str] = Counter()
        made = []
        for (first, last, kept), lineages in sorted(found.items()):
            name = f"{table.ROUNDS.name}_{first:02d}_{last:02d}"
            names[name] += 1
            made.append(RoundBlock(name if names[name] == 1 else f"{name}_{names[name]}", first, last, kept, lineages))
        return made

    @cached_property
    def _needed_rounds(self) -> dict[str, set[int]]:
        """Lineage key -> rounds whose weights another job reads: evaluated ones and the ends of blocks."""
        needed: dict[str, set[int]] = {}
        for key, number in self.evaluated:
            needed.setdefault(key, set()).add(number)
        for lineage in self._in_rounds:
            needed[lineage.key].update(last for _, last in self._blocks_of(lineage))
        return needed

    def _kept_rounds(self, lineage: Lineage) -> list[int]:
        """Rounds whose weights stay on disk; a later block and every evaluation need theirs."""
        if self.study.keep_models == "all" or self._job_of(lineage) != table.ROUNDS.name:
            return list(range(1, self.n_rounds(lineage) + 1))
        return sorted(self._needed_rounds[lineage.key])

    # --- where it lies ----------------------------------------------------------------------------------------------

    def base(self, family: str, scale: str) -> Path:
        """The folder of the model that cells of a scale start from: as it came, or as it was pretrained here."""
        return self.layout.base(family, scale, self.study.families[family].pretrain is not None)

    def prepared_folders(self) -> Iterator[Path]:
        """The folder of every task and every model before finetuning."""
        for task in dict.fromkeys(cell.task for cell in self.cells):
            yield self.layout.task(task)
        for family, scale in dict.fromkeys((cell.family, cell.scale) for cell in self.cells):
            yield self.layout.base(family, scale)
            if self.study.families[family].pretrain:
                yield self.layout.base(family, scale, pretrained=True)

    def model_folders(self) -> Iterator[Path]:
        """The folder of every model that stays on disk; of other rounds only the record stays."""
        for cell in self.cells:
            yield self.layout.model(undefended(cell).key, 0)
        for lineage in self.defended:
            for number in self._kept_rounds(lineage):
                yield self.layout.model(lineage.key, number)

    def defended_models(self) -> list[str]:
        """The last model of every defense, which stands for those before it."""
        return manifests(self.layout.model(lineage.key, self.n_rounds(lineage)) for lineage in self.defended)

    def attacks(self) -> Iterator[tuple[str, int, str]]:
        """Lineage key, round and part of every attack job: an attack, or a shard of it."""
        for (lineage, number), attacks in self.evaluated.items():
            for attack, row in attacks.items():
                for index in range(1, row.shards + 1):
                    yield lineage, number, part_name(attack, index, row.shards)

    def attack_folders(self) -> Iterator[Path]:
        """The folder of every attack job."""
        return (self.layout.attack(*attack) for attack in self.attacks())

    # --- wildcard constraints ---------------------------------------------------------------------------------------

    def cell_pattern(self, chat: bool | None = None) -> str:
        """Regular expression of the cells of this study: of chat models, of classifiers, or all."""
        cells = [cell for cell in self.cells if chat is None or self.study.is_chat(cell.task) == chat]
        return (
            any_of({cell.task for cell in cells})
            + "/"
            + any_of({cell.family for cell in cells})
            + ("/" + any_of({cell.scale for cell in cells}) + r"/s\d+")
        )

    def lineage_pattern(self, lineages: list[Lineage] | None = None) -> str:
        """Regular expression of the given lineages, or of all that this study can hold."""
        if lineages is not None:
            return exactly(lineages)
        return self.cell_pattern() + "/" + any_of({UNDEFENDED, *self.study.defenses})

    # --- settings of one instance -----------------------------------------------------------------------------------

    def finetune_settings(self, cell: Cell) -> FinetuneSettings:
        """Finetuning of a cell, overrides applied."""
        return self.study.finetune.resolve(cell.task, cell.family, cell.scale, cell.seed)

    def defense_settings(self, lineage: Lineage) -> Any:
        """The defense of a lineage, overrides applied (those of its training attack too)."""
        if lineage not in self._defense_settings:
            self._defense_settings[lineage] = self._resolve_defense(lineage)
        return self._defense_settings[lineage]

    def _resolve_defense(self, lineage: Lineage) -> Any:
        cell = lineage.cell
        settings = self.study.defenses[lineage.defense].resolve(cell.task, cell.family, cell.scale, cell.seed)
        if not isinstance(getattr(settings, "attack", None), AttackBase):
            return settings
        attack = settings.attack.resolve(cell.task, cell.family, cell.scale, cell.seed)
        return settings.model_copy(update={"attack": self._placed(attack, cell)})

    def _placed(self, attack: _Attack, cell: Cell) -> _Attack:
        """The attack with its position, the task's own unless it names one, and what depends on the kind of victim."""
        position = attack.position or self.study.tasks[cell.task].position
        return attack.model_copy(update={"position": position}).for_victim(chat=self.study.is_chat(cell.task))

    def attack_settings(self, attack: str, cell: Cell) -> AttackBase:
        """An attack on a cell's models, overrides applied."""
        if (attack, cell) not in self._attack_settings:
            settings = self.study.attacks[attack].resolve(cell.task, cell.family, cell.scale, cell.seed)
            self._attack_settings[attack, cell] = self._placed(settings, cell)
        return self._attack_settings[attack, cell]

    def attack_on(self, attack: str, lineage: Lineage) -> AttackBase:
        """An attack on a lineage's models: one in embedding space may take its ball from their training."""
        settings = self.attack_settings(attack, lineage.cell)
        if not isinstance(settings, EmbeddingAttack) or settings.ball == "own":
            return settings
        training = training_attack(self.defense_settings(lineage))
        assert training is not None  # the study was checked
        return settings.of_training(training)

    def seed(self, cell: Cell, *roles: str | int) -> int:
        """Root of the random choices of one job of a cell."""
        return derive_seed(self.study.seed, cell.key, *roles)


def exactly(lineages: list[Lineage]) -> str:
    """A short regular expression of exactly these lineages: full products of tasks and seeds are factored.

    One that matches nothing when there are none.
    """
    if not lineages:
        return _NOTHING
    groups: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
    for lineage in lineages:
        cell = lineage.cell
        groups.setdefault((cell.family, cell.scale, lineage.defense), set()).add((cell.task, cell.seed))
    parts = []
    for (family, scale, defense), members in groups.items():
        tasks, seeds = {task for task, _ in members}, {seed for _, seed in members}
        if len(members) == len(tasks) * len(seeds):
            middle = f"/{re.escape(family)}/{re.escape(scale)}/s"
            parts.append(any_of(tasks) + middle + any_of({str(seed) for seed in seeds}) + "/" + re.escape(defense))
        else:
            keys = {Lineage(Cell(task, family, scale, seed), defense).key for task, seed in members}
            parts.append(any_of(keys))
    return "(?:" + "|".join(parts) + ")"


def any_of(names: set[str]) -> str:
    """A regular expression of exactly these names; one that matches nothing when there are none."""
    return "(?:" + "|".join(sorted(map(re.escape, names))) + ")" if names else _NOTHING
