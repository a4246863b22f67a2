"""A study: a validated YAML file and the cells that follow from it. No torch and no transformers here."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError, model_validator

from hardscale.errors import StudyError
from hardscale.models.ladder import BUILTIN_FAMILIES
from hardscale.settings.blocks import Name, NonNegativeInt, Settings, TaskName, deep_merge, forms
from hardscale.settings.chat import ChatTaskSettings, JudgeSettings, ModelName
from hardscale.settings.defenses import training_attack
from hardscale.settings.embedding import BALL, EmbeddingAttack
from hardscale.settings.models import FamilySettings
from hardscale.settings.selection import AnalysisSettings, EvaluateRow, GridRow
from hardscale.settings.study_attacks import CHAT_DEFENSES, CHAT_ONLY, AnyAttack, AnyDefense, AnyTask
from hardscale.settings.tasks import CONSTRUCTED, PREFERENCE_TASKS, TEXT_TASKS, DataSettings, TaskSettings
from hardscale.settings.training import FinetuneSettings
from hardscale.settings.utility import UtilitySettings

UNDEFENDED = "none"


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
    description: str = ""
    extends: str | None = Field(
        None, description="Another study file, relative to this one, whose keys are the defaults."
    )
    seed: NonNegativeInt = Field(0, description="Root of every random choice.")
    ranks: PositiveInt | dict[str, PositiveInt] = Field(
        1, description="World size of training gangs, part of the result: a number, or {default: 1, 12b: 8} by scale."
    )
    data: DataSettings = DataSettings()
    tasks: dict[TaskName, AnyTask]
    families: dict[Name, FamilySettings]
    grid: list[GridRow] = Field(min_length=1)
    finetune: FinetuneSettings = FinetuneSettings()
    defenses: dict[Name, AnyDefense] = Field(default_factory=dict)
    attacks: dict[Name, AnyAttack] = Field(default_factory=dict)
    evaluate: list[EvaluateRow] = Field(default_factory=list)
    judges: list[JudgeSettings] = Field(
        default_factory=lambda: [JudgeSettings()], min_length=1, description="Of chat replies; the first decides."
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
        """World size of the gangs that train a scale."""
        if isinstance(self.ranks, int):
            return self.ranks
        return self.ranks.get(scale, self.ranks.get("default", 1))

    @model_validator(mode="after")
    def _names_are_known(self) -> Study:
        known_tasks = (*CONSTRUCTED, *TEXT_TASKS, *PREFERENCE_TASKS)
        for name, task in self.tasks.items():
            if not isinstance(task, TaskSettings):
                continue
            if task.kind is None and task.source is None and name not in known_tasks:
                raise ValueError(
                    f"tasks.{name}: not a built-in task ({', '.join(known_tasks)}); "
                    "describe it with source, text, label and labels, or give its kind"
                )
        if UNDEFENDED in self.defenses:
            raise ValueError(f"defenses.{UNDEFENDED}: this name is kept for the undefended model")
        for name, family in self.families.items():
            if family.source == "builtin":
                _known(
                    f"families.{name}", name, BUILTIN_FAMILIES, "builtin family; describe others with source: models"
                )
                for scale in family.scales or []:
                    _known(f"families.{name}.scales", scale, BUILTIN_FAMILIES[name])
        for i, row in enumerate(self.grid):
            for task_name in row.tasks:
                _known(f"grid.{i}.tasks", task_name, self.tasks)
            for family_name in row.families:
                _known(f"grid.{i}.families", family_name, self.families)
                for scale in row.scales or []:
                    _known(f"grid.{i}.scales", scale, self.scales(family_name))
        for i, entry in enumerate(self.evaluate):
            for attack in entry.attacks:
                _known(f"evaluate.{i}.attacks", attack, self.attacks)
            for defense in entry.defenses:
                _known(f"evaluate.{i}.defenses", defense, [UNDEFENDED, *self.defenses])
        self._other_models_are_known()
        self._wheres_are_known()
        self._cells_are_distinct()
        self._pairs_fit()
        self._balls_are_known()
        return self

    def _wheres_are_known(self) -> None:
        blocks: list[tuple[str, Any]] = [("finetune", self.finetune)]
        blocks += [(f"defenses.{name}", block) for name, block in self.defenses.items()]
        blocks += [(f"attacks.{name}", block) for name, block in self.attacks.items()]
        wheres = [
            (f"{key}.overrides.{i}.where", override.where)
            for key, block in blocks
            for i, override in enumerate(block.overrides)
        ]
        wheres += [(f"evaluate.{i}.where", row.where) for i, row in enumerate(self.evaluate)]
        scales = {scale for family in self.families for scale in self.scales(family)}
        for key, where in wheres:
            for name in where.task or []:
                _known(f"{key}.task", name, self.tasks)
            for name in where.family or []:
                _known(f"{key}.family", name, self.families)
            for name in where.scale or []:
                _known(f"{key}.scale", name, scales)

    def _cells_are_distinct(self) -> None:
        seen: dict[str, int] = {}
        for i, row in enumerate(self.grid):
            for cell in self._row_cells(row):
                first = seen.setdefault(cell.key, i)
                if first != i:
                    raise ValueError(f"grid.{i}: the cell {cell.key} is already in grid.{first}; list each cell once")

    def _roles(self) -> Iterator[tuple[str, ModelName]]:
        """Key and model of every role that another model plays in an attack or as a judge, also of utility."""
        blocks: list[tuple[str, Settings]] = [(f"attacks.{name}", block) for name, block in self.attacks.items()]
        blocks += [(f"judges.{i}", judge) for i, judge in enumerate(self.judges)]
        if self.utility and self.utility.mt_bench:
            blocks.append(("utility.mt_bench", self.utility.mt_bench))
        for key, block in blocks:
            for form in self.forms(block):
                for role in type(form).model_fields:
                    if isinstance(other := getattr(form, role), ModelName):
                        yield f"{key}.{role}", other

    def other_models(self) -> list[tuple[str, str]]:
        """Family and scale of every model that is no cell but plays a role in an attack or as a judge."""
        return list(dict.fromkeys((other.family, other.scale) for _, other in self._roles()))

    def _other_models_are_known(self) -> None:
        for key, other in self._roles():
            _known(f"{key}.family", other.family, self.families)
            _known(f"{key}.scale", other.scale, self.scales(other.family))

    def is_chat(self, task: str) -> bool:
        """Whether a task is for chat models."""
        return isinstance(self.tasks[task], ChatTaskSettings)

    def fits(self, task: str, attack: str | None = None, defense: str = UNDEFENDED) -> bool:
        """Whether an attack and a defence have a meaning for a task's kind of model."""
        if attack is not None and not self.is_chat(task) and self.attacks[attack].kind in CHAT_ONLY:
            return False
        return defense == UNDEFENDED or (self.defenses[defense].kind in CHAT_DEFENSES) == self.is_chat(task)

    def _pairs_fit(self) -> None:
        for i, row in enumerate(self.evaluate):
            tasks = {c.task for c in self.cells() if row.where.matches(c.task, c.family, c.scale, c.seed)}
            for task in sorted(tasks):
                what = "a chat task" if self.is_chat(task) else "a classification task"
                for attack in row.attacks:
                    if not self.fits(task, attack):
                        raise ValueError(
                            f"evaluate.{i}.attacks: {attack!r} ({self.attacks[attack].kind}) is for chat models, "
                            f"{task!r} is {what}; choose tasks by `where`"
                        )
                for defense in row.defenses:
                    if not self.fits(task, defense=defense):
                        raise ValueError(
                            f"evaluate.{i}.defenses: {defense!r} ({self.defenses[defense].kind}) does not train models "
                            f"of {task!r}, which is {what}; choose tasks by `where`"
                        )

    def _balls_are_known(self) -> None:
        """Attacks with the ball of a training name none of their own and stay with models that were trained in one."""
        for i, row in enumerate(self.evaluate):
            where = [c for c in self.cells() if row.where.matches(c.task, c.family, c.scale, c.seed)]
            cells = [(cell.task, cell.family, cell.scale, cell.seed) for cell in where]
            for name in row.attacks:
                for form in forms(self.attacks[name], cells):
                    if isinstance(form, EmbeddingAttack) and form.ball == "training":
                        self._must_have_balls(f"evaluate.{i}", name, form, row.defenses, cells)

    def _must_have_balls(
        self,
        key: str,
        name: str,
        attack: EmbeddingAttack,
        defenses: Sequence[str],
        cells: Sequence[tuple[str, str, str, int]],
    ) -> None:
        own = attack.perturbation.model_fields_set if "perturbation" in attack.model_fields_set else set()
        if given := [setting for setting in BALL if setting in own]:
            raise ValueError(
                f"attacks.{name}.perturbation.{given[0]}: given beside ball: training, which takes it from each "
                "model's training; leave it out, or use ball: own"
            )
        for defense in defenses:
            trained = [] if defense == UNDEFENDED else list(forms(self.defenses[defense], cells))
            attacks = [training_attack(form) for form in trained]
            if not all(attacks) or not trained:
                raise ValueError(
                    f"{key}.attacks: {name!r} takes its ball from the training (ball: training), and {defense!r} has "
                    "no attack on embeddings there; give those models one with its own eps, in another row"
                )
            for training in attacks:
                if training and training.eps is None and attack.perturbation.needs_ball:
                    raise ValueError(
                        f"{key}.attacks: {name!r} takes its ball from the training (ball: training), and that of "
                        f"{defense!r} has eps: null; its start or its steps need one"
                    )

    def scales(self, family: str) -> list[str]:
        """Names of a family's scales, smallest first as the study lists them."""
        settings = self.families[family]
        if settings.source == "builtin":
            return list(settings.scales or BUILTIN_FAMILIES[family])
        return list(settings.scales or [])

    def _row_cells(self, row: GridRow) -> Iterator[Cell]:
        for task in dict.fromkeys(row.tasks):
            for family in dict.fromkeys(row.families):
                chosen = row.scales or self.scales(family)
                for scale in [name for name in self.scales(family) if name in chosen]:
                    for seed in dict.fromkeys(row.seeds):
                        yield Cell(task, family, scale, seed)

    def cells(self) -> list[Cell]:
        """Every cell of the grid, in the order of the file."""
        return [cell for row in self.grid for cell in self._row_cells(row)]

    def forms(self, block: Settings) -> Iterator[Any]:
        """A block as it holds for the cells of the study: each different form once."""
        return forms(block, ((cell.task, cell.family, cell.scale, cell.seed) for cell in self.cells()))


def _known(key: str, name: str, allowed: Any, what: str = "") -> None:
    names = list(allowed)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{key}: {name!r} is not one of {', '.join(names) or 'none'}{f' ({what})' if what else ''}{hint}")


def read_yaml(path: Path, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A study file with its ``extends`` chain merged in.

    Raises:
        StudyError: the file is missing, is not YAML, is not a mapping, or extends itself.
    """
    path = Path(path)
    if path.resolve() in chain:
        raise StudyError(f"{path}: extends itself through {' -> '.join(p.name for p in chain)}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(
            f"{path}: can not be read ({error.strerror}); give a study file, e.g. studies/tiny.yaml"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise StudyError(f"{path}: a study is a mapping of keys, found {type(values).__name__}")
    base = values.get("extends")
    if isinstance(base, str):
        values = deep_merge(read_yaml(path.parent / base, (*chain, path.resolve())), values)
    return values


def parse_study(values: dict[str, Any], origin: str) -> Study:
    """The validated study of a mapping.

    Raises:
        StudyError: one line for each problem: the key, what was found, what is allowed.
    """
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise StudyError("\n".join(f"{origin}: {_explain(e)}" for e in error.errors())) from error


def _explain(error: Any) -> str:
    place = list(error["loc"])
    if len(place) > 2 and place[0] in ("tasks", "attacks", "defenses"):
        del place[2]  # the kind that pydantic tried, which is no key of the file
    key = ".".join(str(part) for part in place) or ""
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; see docs/study.md or workflow/schemas/study.schema.json for what is allowed"
    if error["type"] == "missing":
        return f"{key}: this key is required"
    message = error["msg"].removeprefix("Value error, ")
    found = error.get("input")
    if error["type"].endswith("_kind"):
        return f"{key}.{message} (found {found.get('kind')!r})" if isinstance(found, dict) else f"{key}: {message}"
    shown = "" if isinstance(found, dict | list) or error["type"] == "value_error" else f" (found {found!r})"
    return f"{key}: {message}{shown}" if key else message


def data_root(study: Study) -> Path | None:
    """The folder with real data: the study's ``data.root``, else the environment's ``HARDSCALE_DATA``, else none."""
    root = study.data.root or os.environ.get("HARDSCALE_DATA")
    return Path(root).expanduser() if root else None
