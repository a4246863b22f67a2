"""A study: a validated YAML file and the cells that follow from it. No torch and no transformers here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from hardscale.errors import StudyError
from hardscale.models.ladder import BUILTIN_FAMILIES
from hardscale.settings.blocks import Settings, forms
from hardscale.settings.bounds import Line, Name, Ranks, Seed, TaskName, Text, size
from hardscale.settings.chat import ChatTaskSettings, JudgeSettings, ModelName
from hardscale.settings.checks.every import check_study
from hardscale.settings.checks.finals import attacked_cells, finals
from hardscale.settings.models import FamilySettings
from hardscale.settings.selection import UNDEFENDED, AnalysisSettings, EvaluateRow, GridRow
from hardscale.settings.study_attacks import AnyAttack, AnyTask
from hardscale.settings.study_defenses import AnyDefense
from hardscale.settings.study_file import read_yaml
from hardscale.settings.tasks import DataSettings
from hardscale.settings.training import FinetuneSettings
from hardscale.settings.utility import UtilitySettings
from hardscale.settings.words import problems
from hardscale.untrusted.guarded import expanded

__all__ = ["UNDEFENDED", "Cell", "Study", "data_root", "parse_study", "read_yaml"]

#: Most problems reported of one study.
MAX_PROBLEMS = 20


@dataclass(frozen=True, order=True)
class Cell:
    """One undefended model: a task, a family, a scale and a seed. ``key`` is its path."""

    task: str
    family: str
    scale: str
    seed: int

    @property
    def key(self) -> str:
        """``task/family/scale/sSEED``: the cell's place under every results folder."""
        return f"{self.task}/{self.family}/{self.scale}/s{self.seed}"

    @classmethod
    def parse(cls, key: str) -> Cell:
        """The cell of a key."""
        task, family, scale, seed = key.split("/")
        return cls(task, family, scale, int(seed.removeprefix("s")))


class Study(Settings):
    """A study as its YAML file describes it."""

    name: Name = Field(description="Same as the file's name without .yaml; the folder under results/.")
    description: Text = ""
    extends: Line | None = Field(
        None, description="Another study file, relative to this one, whose keys are the defaults."
    )
    seed: Seed = Field(0, description="Root of every random choice.")
    ranks: Ranks | Annotated[dict[Name, Ranks], size(100)] = Field(
        1, description="World size of distributed jobs, part of the result: a number, or {default: 1, 12b: 8} by scale."
    )
    instruction_set: Literal["avx2", "portable", "native"] = Field(
        "avx2",
        description="What CPUs compute with. avx2: the same numbers on every x86-64 processor of one maker that has "
        "it; portable: of every maker, at half of the speed (machines without AVX2 stay native and say so); native: "
        "each processor's best. docs/numerics.md.",
    )
    data: DataSettings = DataSettings()
    tasks: Annotated[dict[TaskName, AnyTask], size(100)]
    families: Annotated[dict[Name, FamilySettings], size(100)]
    grid: Annotated[list[GridRow], size(1_000)]
    finetune: FinetuneSettings = FinetuneSettings()
    defenses: Annotated[dict[Name, AnyDefense], size(1_000, least=0)] = Field(default_factory=dict)
    attacks: Annotated[dict[Name, AnyAttack], size(1_000)]
    evaluate: Annotated[list[EvaluateRow], size(1_000)]
    judges: Annotated[list[JudgeSettings], size(20)] = Field(
        default_factory=lambda: [JudgeSettings()],
        description="Judges of chat replies; the first one determines success.",
    )
    utility: UtilitySettings | None = Field(None, description="Chat models: what else is measured; null for nothing.")
    versions: Literal["recorded", "strict"] = Field(
        "recorded",
        description="strict: another version of a library makes the jobs whose code imports it run again; "
        "recorded: it is only noted with each result.",
    )
    keep_models: Literal["evaluated", "all"] = Field("evaluated", description="Which rounds' models stay on disk.")
    analysis: AnalysisSettings = AnalysisSettings()

    def ranks_of(self, scale: str) -> int:
        """World size of the distributed jobs that train a scale."""
        if isinstance(self.ranks, int):
            return self.ranks
        return self.ranks.get(scale, self.ranks.get("default", 1))

    @model_validator(mode="after")
    def _means_something(self) -> Study:
        check_study(self)
        return self

    def roles(self) -> Iterator[tuple[str, ModelName]]:
        """Every helper model of attacks, judges and MT-Bench, with its key in the study."""
        blocks: list[tuple[str, Settings]] = [(f"attacks.{name}", block) for name, block in self.attacks.items()]
        blocks += [(f"judges.{i}", judge) for i, judge in enumerate(self.judges)]
        if self.utility and self.utility.mt_bench:
            blocks.append(("utility.mt_bench", self.utility.mt_bench))
        for key, block in blocks:
            forms = finals(self, key, attacked_cells(self, key.partition(".")[2])) if key.startswith("attacks.") else ()
            for form in [form for form, _ in forms] or [block]:
                for role in type(form).model_fields:
                    if isinstance(other := getattr(form, role), ModelName):
                        yield f"{key}.{role}", other

    def other_models(self) -> list[tuple[str, str]]:
        """Family and scale of every model that is no cell but plays a role in an attack or as a judge."""
        return list(dict.fromkeys((other.family, other.scale) for _, other in self.roles()))

    def is_chat(self, task: str) -> bool:
        """Whether a task is for chat models."""
        return isinstance(self.tasks[task], ChatTaskSettings)

    def fits(self, task: str, attack: str | None = None, defense: str = UNDEFENDED) -> bool:
        """Whether an attack and a defense can be applied to a task's kind of model."""
        if attack is not None and not self.is_chat(task) and self.attacks[attack].facts.chat_only:
            return False
        return defense == UNDEFENDED or (self.defenses[defense].victims == "chat") == self.is_chat(task)

    def scales(self, family: str) -> list[str]:
        """Names of a family's scales in the order of the study, smallest first where it names none."""
        settings = self.families[family]
        if settings.source == "builtin":
            return list(settings.scales or BUILTIN_FAMILIES[family])
        return list(settings.scales or [])

    def row_cells(self, row: GridRow) -> Iterator[Cell]:
        """The cells of one row of the grid."""
        for task in dict.fromkeys(row.tasks):
            for family in dict.fromkeys(row.families):
                chosen = row.scales or self.scales(family)
                for scale in [name for name in self.scales(family) if name in chosen]:
                    for seed in dict.fromkeys(row.seeds):
                        yield Cell(task, family, scale, seed)

    def cells(self) -> list[Cell]:
        """Every cell of the grid, in the order of the file."""
        known: list[Cell] = self.memory.get("cells", [])
        return known or [cell for row in self.grid for cell in self.row_cells(row)]

    @cached_property
    def memory(self) -> dict[str, Any]:
        """Cache of the checks while the study is validated; empty before and after."""
        return {}

    def forms(self, block: Settings) -> Iterator[Any]:
        """A block as it holds for the cells of the study: each different form once."""
        return forms(block, ((cell.task, cell.family, cell.scale, cell.seed) for cell in self.cells()))


def parse_study(values: dict[str, Any], origin: str) -> Study:
    """The validated study of a mapping.

    Raises:
        StudyError: one line for each problem: the key, what was found, what is allowed.
    """
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        lines = problems(error, values)
        more = [f"{len(lines) - MAX_PROBLEMS:,} more problems"] if len(lines) > MAX_PROBLEMS else []
        raise StudyError("\n".join(f"{origin}: {line}" for line in [*lines[:MAX_PROBLEMS], *more])) from error


def data_root(study: Study) -> Path | None:
    """The folder with real data: the study's ``data.root``, else the environment's ``HARDSCALE_DATA``, else none.

    Raises:
        StudyError: it cannot be a path, or is of a user who does not exist.
    """
    given, key = (study.data.root, "data.root") if study.data.root else (os.environ.get("HARDSCALE_DATA"), None)
    return expanded(given, key or "HARDSCALE_DATA", StudyError) if given else None
