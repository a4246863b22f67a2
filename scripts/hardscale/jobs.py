"""The jobs of a study: which artefacts it holds, and for each the settings and the code that make it.

Every method that takes ``wildcards`` is used by a rule as an input, params or resources function. A spec is the
canonical JSON of exactly the settings that a job uses, so that Snakemake reruns a job when one of them changes and
only then.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hardscale import resources
from hardscale.artifacts.manifest import MANIFEST, canonical_json
from hardscale.chat_jobs import ChatJobs
from hardscale.chat_settings import ChatTaskSettings
from hardscale.digest import code_digest, versions_digest
from hardscale.errors import DataError
from hardscale.for_rules import for_rules, with_signature
from hardscale.models.folders import SMALL_FILES, WEIGHTS_INDEX
from hardscale.paths import Layout, Lineage, parse_part, part_name, undefended
from hardscale.patterns import any_of, exactly
from hardscale.rounds_plan import blocks, chosen_rounds
from hardscale.seeds import derive_seed
from hardscale.settings import AdversarialRounds, AttackBase, AttackSettings, EvaluateRow, FinetuneSettings, HubScale
from hardscale.study import UNDEFENDED, Cell, Study, data_root
from hardscale.tasks import locate as located
from hardscale.tasks.locate import LocalFiles, locate

_Attack = TypeVar("_Attack", bound=AttackBase)

FIGURES = (
    "asr_vs_parameters",
    "attack_scaling",
    "attack_comparison",
    "asr_by_round",
    "defense_scaling",
    "offense_defense",
    "clean_accuracy",
)


#: Of a family of chat models with several sizes.
BY_SIZE = "chat_asr_by_size"
#: Of chat models.
CHAT_FIGURES = (
    "robustness_bars",
    "ablations",
    "loss_correlation",
    "embedding_losses",
    "chat_defense_compute",
    BY_SIZE,
)


@dataclass(frozen=True)
class Block:
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


class Jobs:
    """Everything that the rules ask of a study."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.layout = Layout(study.name)
        self.data_root = str(data_root(study) or "")
        # Snakemake asks for the same spec several times; resolving a block validates it.
        self._defense_settings: dict[Lineage, Any] = {}
        self._attack_settings: dict[tuple[str, Cell], AttackBase] = {}
        self.chat = ChatJobs(self)

    # --- what exists ------------------------------------------------------------------------------------------------

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell of the grid."""
        return self.study.cells()

    @cached_property
    def _evaluated(self) -> dict[tuple[str, int], dict[str, EvaluateRow]]:
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
        """Lineages of the defences that some evaluation asks for."""
        keys = {key for key, _ in self._evaluated}
        lineages = [Lineage(cell, defense) for cell in self.cells for defense in self.study.defenses]
        return [lineage for lineage in lineages if lineage.key in keys]

    def n_rounds(self, lineage: Lineage) -> int:
        """Rounds of a lineage's defence: the models that it publishes."""
        return int(self.defense_settings(lineage).rounds)

    def evaluated_models(self) -> list[tuple[str, int]]:
        """Lineage key and round of every model that some attack is run on."""
        return list(self._evaluated)

    @cached_property
    def _in_rounds(self) -> list[Lineage]:
        """Lineages of adversarial training in rounds."""
        return [line for line in self.defended if self.study.defenses[line.defense].kind == "adversarial_rounds"]

    def _blocks_of(self, lineage: Lineage) -> list[tuple[int, int]]:
        settings = self.defense_settings(lineage)
        return blocks(settings.rounds, settings.rounds_per_job or resources.rounds_per_job(self.study, lineage.cell))

    @cached_property
    def blocks(self) -> list[Block]:
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
            name = f"adversarial_rounds_{first:02d}_{last:02d}"
            names[name] += 1
            made.append(Block(name if names[name] == 1 else f"{name}_{names[name]}", first, last, kept, lineages))
        return made

    def attack_folders(self) -> Iterator[Path]:
        """The folder of every attack job."""
        for (lineage, number), attacks in self._evaluated.items():
            for attack, row in attacks.items():
                for index in range(1, row.shards + 1):
                    yield self.layout.attack(lineage, number, part_name(attack, index, row.shards))

    def model_folders(self) -> Iterator[Path]:
        """The folder of every model that stays on disk; of other rounds only the record stays."""
        for cell in self.cells:
            yield self.layout.model(undefended(cell).key, 0)
        for lineage in self.defended:
            for number in self._kept_rounds(lineage):
                yield self.layout.model(lineage.key, number)

    def defended_models(self) -> list[str]:
        """The last model of every defence, which stands for those before it."""
        return manifests(self.layout.model(lineage.key, self.n_rounds(lineage)) for lineage in self.defended)

    def prepared_folders(self) -> Iterator[Path]:
        """The folder of every task and every model before finetuning."""
        for task in dict.fromkeys(cell.task for cell in self.cells):
            yield self.layout.task(task)
        for family, scale in dict.fromkeys((cell.family, cell.scale) for cell in self.cells):
            yield self.layout.base(family, scale)
            if self.study.families[family].pretrain:
                yield self.layout.base(family, scale, pretrained=True)

    def targets(self) -> list[str]:
        """Every model, attack, table and figure: what rule ``all`` asks for, so that deleting any one rebuilds it."""
        folders = [*self.prepared_folders(), *self.model_folders(), *self.attack_folders()]
        folders += [*self.chat.utility_folders(), *self.chat.measures.folders()]
        return [*manifests(folders), *self.tables(), *self.figures()]

    def tables(self) -> list[str]:
        """The study's tables."""
        both = [f"{stem}.{suffix}" for stem in ("runs", "fits", "claims", "cost") for suffix in ("parquet", "csv")]
        return [*(str(self.layout.table(name)) for name in (*both, "summary.md")), *self.chat.tables()]

    @property
    def phases(self) -> list[str]:
        """The files of rules that the study needs."""
        more = ["continuous", "utility"] if self.chat.needed else []
        return ["data", "models", "train", "adversarial", *more, "attack", "analysis", "figures", "ops"]

    @cached_property
    def figure_names(self) -> tuple[str, ...]:
        """The figures that have something to show in this study."""
        kinds = {self.study.is_chat(cell.task) for cell in self.cells}
        chat = [name for name in CHAT_FIGURES if name != BY_SIZE or self.chat.several_sizes]
        joint = ("joint_defense_compute",) if self.chat.c_at_blocks else ()
        return (*(FIGURES if False in kinds else ()), *(chat if True in kinds else ()), *joint)

    def figures(self) -> list[str]:
        """The study's figures."""
        return [str(self.layout.figure(f"{name}.{suffix}")) for name in self.figure_names for suffix in ("png", "svg")]

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
        """The defence of a lineage, overrides applied (those of its training attack too)."""
        if lineage not in self._defense_settings:
            self._defense_settings[lineage] = self._resolve_defense(lineage)
        return self._defense_settings[lineage]

    def _resolve_defense(self, lineage: Lineage) -> Any:
        cell = lineage.cell
        settings = self.study.defenses[lineage.defense].resolve(cell.task, cell.family, cell.scale, cell.seed)
        if not isinstance(settings, AdversarialRounds):
            return settings
        attack = settings.attack.resolve(cell.task, cell.family, cell.scale, cell.seed)
        return settings.model_copy(update={"attack": self._placed(attack, cell)})

    def _placed(self, attack: _Attack, cell: Cell) -> _Attack:
        """The attack with its position, the task's own unless it names one."""
        position = attack.position or self.study.tasks[cell.task].position
        return attack.model_copy(update={"position": position})

    def attack_settings(self, attack: str, cell: Cell) -> AttackBase:
        """An attack on a cell's models, overrides applied."""
        if (attack, cell) not in self._attack_settings:
            settings = self.study.attacks[attack].resolve(cell.task, cell.family, cell.scale, cell.seed)
            self._attack_settings[attack, cell] = self._placed(settings, cell)
        return self._attack_settings[attack, cell]

    def seed(self, cell: Cell, *roles: str | int) -> int:
        """Root of the random choices of one job of a cell."""
        return derive_seed(self.study.seed, cell.key, *roles)

    # --- specs: what a job is told, as JSON -------------------------------------------------------------------------

    @for_rules
    def task_spec(self, wildcards: Any) -> str:
        """Spec of prepare_task."""
        settings = self.study.tasks[wildcards.task].model_dump(exclude={"max_tokens"})
        return canonical_json({"name": wildcards.task, "settings": settings, "seed": self.study.seed})

    @for_rules
    def model_spec(self, wildcards: Any) -> str:
        """Spec of prepare_model: the family without its other scales."""
        family = self.study.families[wildcards.family]
        settings = family.model_dump(exclude={"pretrain"})
        scales = family.scales
        settings["scales"] = (
            {wildcards.scale: scales[wildcards.scale].model_dump()} if isinstance(scales, dict) else [wildcards.scale]
        )
        spec = {"family": wildcards.family, "scale": wildcards.scale, "settings": settings, "seed": self.study.seed}
        return canonical_json(spec)

    @for_rules
    def pretrain_spec(self, wildcards: Any) -> str:
        """Spec of pretrain."""
        pretrain = self.study.families[wildcards.family].pretrain
        if pretrain is None:
            raise ValueError(f"family {wildcards.family} has no pretrain block")
        settings = pretrain.resolve("", wildcards.family, wildcards.scale, 0).model_dump(exclude={"overrides"})
        seed = derive_seed(self.study.seed, wildcards.family, wildcards.scale, "pretrain")
        spec = {"family": wildcards.family, "scale": wildcards.scale, "settings": settings, "seed": seed}
        return canonical_json({**spec, "ranks": self.study.ranks_of(wildcards.scale)})

    @for_rules
    def finetune_spec(self, wildcards: Any) -> str:
        """Spec of finetune."""
        cell = Cell.parse(wildcards.cell)
        return canonical_json(
            {
                "cell": cell.key,
                "seed": self.seed(cell, "finetune"),
                "ranks": self.study.ranks_of(cell.scale),
                "settings": self.finetune_settings(cell).model_dump(exclude={"overrides"}),
                "max_tokens": self.study.tasks[cell.task].max_tokens,
            }
        )

    def rounds_spec(self, block: Block) -> Any:
        """Params function: spec of the job that trains a block of rounds of a lineage."""

        def spec(wildcards: Any) -> str:
            lineage = Lineage.parse(wildcards.lineage)
            settings = self.defense_settings(lineage)
            dumped = settings.model_dump(exclude={"overrides": True, "rounds_per_job": True, "attack": {"overrides"}})
            return canonical_json(
                {
                    "cell": lineage.cell.key,
                    "defense": lineage.defense,
                    "seed": self.seed(lineage.cell, lineage.defense),
                    "ranks": self.study.ranks_of(lineage.cell.scale),
                    "settings": dumped,
                    "first_round": block.first,
                    "last_round": block.last,
                    "max_tokens": self.study.tasks[lineage.cell.task].max_tokens,
                    "keep_rounds": list(block.kept),
                }
            )

        return with_signature(spec)

    @cached_property
    def _needed_rounds(self) -> dict[str, set[int]]:
        """Lineage key -> rounds whose weights another job reads: evaluated ones and the ends of blocks."""
        needed: dict[str, set[int]] = {}
        for key, number in self._evaluated:
            needed.setdefault(key, set()).add(number)
        for lineage in self._in_rounds:
            needed[lineage.key].update(last for _, last in self._blocks_of(lineage))
        return needed

    def _kept_rounds(self, lineage: Lineage) -> list[int]:
        """Rounds whose weights stay on disk; a later block and every evaluation need theirs."""
        if self.study.keep_models == "all" or self.study.defenses[lineage.defense].kind != "adversarial_rounds":
            return list(range(1, self.n_rounds(lineage) + 1))
        return sorted(self._needed_rounds[lineage.key])

    @for_rules
    def attack_spec(self, wildcards: Any) -> str:
        """Spec of attack."""
        lineage, number = Lineage.parse(wildcards.lineage), int(wildcards.round)
        name, index, count = parse_part(wildcards.part)
        row = self._evaluated[lineage.key, number][name]
        chat = {"judges": [judge.model_dump() for judge in self.study.judges]}
        return canonical_json(
            {
                **(chat if self.study.is_chat(lineage.cell.task) else {}),
                "cell": lineage.cell.key,
                "defense": lineage.defense,
                "round": number,
                "attack": name,
                "settings": self.attack_settings(name, lineage.cell).model_dump(exclude={"overrides"}),
                "n_examples": row.n_examples,
                "max_tokens": self.study.tasks[lineage.cell.task].max_tokens,
                "seed": self.seed(lineage.cell, "attack", name),
                "shard": index,
                "shards": count,
            }
        )

    @for_rules
    def analysis_spec(self, wildcards: Any = None) -> str:  # noqa: ARG002 - a params function takes wildcards
        """Settings of fits, claims and figures."""
        analysis = self.study.analysis.model_dump()
        spec = {**analysis, "scratch_families": self.scratch_families, "controls": self._controls()}
        return canonical_json(spec).replace("<", "\\u003c")  # the same JSON; why: see caption_note

    @property
    def caption_note(self) -> str:
        """The study's note for captions, unable to end a script.

        Snakemake copies the parameters of a reported job unescaped into a ``<script>`` of its report, so a space of no
        width follows every ``<``.
        """
        return self.study.analysis.caption_note.replace("<", "<\u200b")

    @property
    def scratch_families(self) -> list[str]:
        """Families whose pretraining compute is this study's own."""
        return [name for name, family in self.study.families.items() if family.source == "scratch"]

    def _controls(self) -> dict[str, str]:
        """No-gradient control -> the attack that it controls: equal but for the gradient."""
        attacks = {name: block for name, block in self.study.attacks.items() if isinstance(block, AttackSettings)}
        return {
            control: name
            for control, settings in attacks.items()
            for name, other in attacks.items()
            if not settings.gradient and settings == other.model_copy(update={"gradient": False}) and other.gradient
        }

    @for_rules
    def collect_spec(self, wildcards: Any = None) -> str:  # noqa: ARG002
        """Settings of collect: the kind of every defence."""
        kinds = {UNDEFENDED: UNDEFENDED, **{name: d.kind for name, d in self.study.defenses.items()}}
        return canonical_json({"study": self.study.name, "defense_kinds": kinds})

    # --- inputs -----------------------------------------------------------------------------------------------------

    @for_rules
    def task_files(self, wildcards: Any) -> list[str]:
        """The user's own files that a task is read from, so that an edit of them is seen; none for other tasks.

        A file that is missing is left to the checks before the first job, which say so in words.
        """
        settings = self.study.tasks[wildcards.task]
        if isinstance(settings, ChatTaskSettings):
            with contextlib.suppress(DataError):
                return [str(path) for path in located.chat_files(wildcards.task, settings, data_root(self.study))]
            return []
        if not settings.source or settings.source.startswith("hub:"):
            return []
        with contextlib.suppress(DataError):
            place = locate(wildcards.task, settings, data_root(self.study))
            if isinstance(place, LocalFiles):
                return [str(path) for path in (*place.train, *place.validation)]
        return []

    @for_rules
    def model_files(self, wildcards: Any) -> list[str]:
        """The user's own files that a model is read from; none for models of the hub and models made here."""
        scales = self.study.families[wildcards.family].scales
        scale = scales[wildcards.scale] if isinstance(scales, dict) else None
        if not isinstance(scale, HubScale):
            return []
        files = [Path(scale.gguf).expanduser()] if scale.gguf else []
        if scale.path:
            folder = Path(scale.path).expanduser()
            files = [*(folder / name for name in (*SMALL_FILES, WEIGHTS_INDEX)), *sorted(folder.glob("*.safetensors"))]
        return [str(path) for path in files if path.is_file()]

    @for_rules
    def base_tasks(self, wildcards: Any) -> list[str]:
        """Tasks that a scratch family's tokenizer (and pretraining) is made from; none for other families."""
        if self.study.families[wildcards.family].source != "scratch":
            return []
        tasks = dict.fromkeys(cell.task for cell in self.cells if cell.family == wildcards.family)
        return manifests(self.layout.task(task) for task in tasks)

    @for_rules
    def cell_base(self, wildcards: Any) -> str:
        """The model that a cell, or that of a lineage, starts from."""
        cell = Cell.parse(wildcards.cell) if hasattr(wildcards, "cell") else Lineage.parse(wildcards.lineage).cell
        pretrained = self.study.families[cell.family].pretrain is not None
        return manifest(self.layout.base(cell.family, cell.scale, pretrained))

    @for_rules
    def cell_task(self, wildcards: Any) -> str:
        """The task of a cell or a lineage."""
        key = wildcards.cell if hasattr(wildcards, "cell") else wildcards.lineage
        return manifest(self.layout.task(key.split("/")[0]))

    def block_start(self, first: int) -> Any:
        """Input function: the model before round ``first``."""

        def start(wildcards: Any) -> str:
            lineage = Lineage.parse(wildcards.lineage)
            key = undefended(lineage.cell).key if first == 1 else lineage.key
            return manifest(self.layout.model(key, first - 1))

        return with_signature(start)

    # --- code digests -----------------------------------------------------------------------------------------------

    def code(self, *modules: str) -> str:
        """Digest of the code that a job runs; with ``versions: strict`` of the versions of its libraries too."""
        digest = code_digest(*modules)
        return f"{digest}-{versions_digest(*modules)}" if self.study.versions == "strict" else digest

    @for_rules
    def attack_code(self, wildcards: Any) -> str:
        """Digest of the attack job's code with the one attack that it runs."""
        lineage = Lineage.parse(wildcards.lineage)
        kind = self.attack_settings(parse_part(wildcards.part)[0], lineage.cell).kind
        job = "chat_attack_job" if self.study.is_chat(lineage.cell.task) else "attack_job"
        return self.code(f"hardscale.evaluation.{job}", f"hardscale.attacks.{kind}")

    @for_rules
    def figure_code(self, wildcards: Any) -> str:
        """Digest of one figure's module and the style."""
        return self.code(f"hardscale.figures.{wildcards.figure}")

    @for_rules
    def rounds_code(self, wildcards: Any) -> str:
        """Digest of adversarial training with its training attack."""
        kind = self.defense_settings(Lineage.parse(wildcards.lineage)).attack.kind
        return self.code("hardscale.training.rounds", f"hardscale.attacks.{kind}")


def manifest(folder: Path) -> str:
    """The file that stands for an artefact folder in the DAG: it is written last."""
    return str(folder / MANIFEST)


def manifests(folders: Any) -> list[str]:
    """:func:`manifest` of each folder."""
    return [manifest(folder) for folder in folders]
