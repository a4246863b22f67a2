"""What each job is told.

A spec is the canonical JSON of exactly the settings that a job uses, so that Snakemake reruns a job when one of them
changes and only then. Every method that takes ``wildcards`` is a params function of a rule.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hardscale.artifacts.digest import code_digest, versions_digest
from hardscale.artifacts.manifest import canonical_json
from hardscale.artifacts.seeds import derive_seed
from hardscale.figures.about import figures
from hardscale.papers import deviations
from hardscale.plan import table
from hardscale.plan.grid import RoundBlock, StudyGrid
from hardscale.plan.paths import Lineage, parse_part, undefended
from hardscale.runtime.instruction_set import KEY
from hardscale.settings.attacks import AttackSettings
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.checks.sizes import constructed
from hardscale.settings.defenses import External
from hardscale.settings.former_names import for_spec
from hardscale.settings.study import UNDEFENDED, Cell
from hardscale.settings.study_attacks import attack_facts
from hardscale.settings.utility import OTHER_JOBS
from hardscale.untrusted.literal import restructured

#: Imported by its name where a victim is a chat model, so that attacks on classifiers do not run again for it.
_CHAT_VICTIM = "hardscale.attacks.language_victim"


class Specs:
    """The spec of every job of a study, by the name of its rule."""

    def __init__(self, grid: StudyGrid) -> None:
        self._grid, self._study = grid, grid.study
        #: Told to every job that trains or measures; all others compute the same way whatever the study says.
        self._numerics = {KEY: self._study.instruction_set}
        self._deviations = cache(lambda chat: deviations.lines(self._study, chat=chat))

    # --- before attacks and defenses --------------------------------------------------------------------------------

    def task(self, wildcards: Any) -> str:
        """Spec of prepare_task."""
        settings = self._study.tasks[wildcards.task].model_dump(exclude={"max_tokens"})
        return canonical_json({"name": wildcards.task, "settings": settings, "seed": self._study.seed})

    def model(self, wildcards: Any) -> str:
        """Spec of prepare_model: the family without its other scales."""
        family = self._study.families[wildcards.family]
        settings = family.model_dump(exclude={"pretrain"})
        scales = family.scales
        settings["scales"] = (
            {wildcards.scale: scales[wildcards.scale].model_dump()} if isinstance(scales, dict) else [wildcards.scale]
        )
        spec = {"family": wildcards.family, "scale": wildcards.scale, "settings": settings, "seed": self._study.seed}
        return canonical_json(spec)

    def pretrain(self, wildcards: Any) -> str:
        """Spec of pretrain."""
        pretrain = self._study.families[wildcards.family].pretrain
        if pretrain is None:
            raise ValueError(f"family {wildcards.family} has no pretrain block")
        settings = pretrain.resolve("", wildcards.family, wildcards.scale, 0).model_dump(exclude={"overrides"})
        seed = derive_seed(self._study.seed, wildcards.family, wildcards.scale, "pretrain")
        spec = {"family": wildcards.family, "scale": wildcards.scale, "settings": settings, "seed": seed}
        return canonical_json({**spec, **self._numerics, "ranks": self._study.ranks_of(wildcards.scale)})

    def finetune(self, wildcards: Any) -> str:
        """Spec of finetune."""
        cell = Cell.parse(wildcards.cell)
        return canonical_json(
            {
                **self._numerics,
                "cell": cell.key,
                "seed": self._grid.seed(cell, "finetune"),
                "ranks": self._study.ranks_of(cell.scale),
                "settings": self._grid.finetune_settings(cell).model_dump(exclude={"overrides"}),
                "max_tokens": self._study.tasks[cell.task].max_tokens,
            }
        )

    def import_model(self, wildcards: Any) -> str:
        """Spec of import_model: a chat model as it is."""
        return self._import(undefended(Cell.parse(wildcards.cell)), 0, None)

    def import_external(self, wildcards: Any) -> str:
        """Spec of import_external: a defense that somebody else trained."""
        lineage = Lineage.parse(wildcards.lineage)
        return self._import(lineage, 1, self._grid.defense_settings(lineage).model_dump(exclude={"overrides"}))

    def _import(self, lineage: Lineage, number: int, external: dict[str, Any] | None) -> str:
        spec = {**self._numerics, "cell": lineage.cell.key, "defense": lineage.defense, "external": external}
        return canonical_json({**spec, "round": number})

    # --- defenses ---------------------------------------------------------------------------------------------------

    def rounds(self, block: RoundBlock) -> Any:
        """Params function: spec of the job that trains a block of rounds of a lineage."""

        def spec(wildcards: Any) -> str:
            lineage = Lineage.parse(wildcards.lineage)
            left_out = {"overrides": True, "rounds_per_job": True, "attack": {"overrides"}}
            span = {"first_round": block.first, "last_round": block.last, "keep_rounds": list(block.kept)}
            return canonical_json({**self._training(lineage, left_out), **span})

        return spec

    def defense(self, wildcards: Any) -> str:
        """Spec of a defense that trains once."""
        return canonical_json(self._training(Lineage.parse(wildcards.lineage)))

    def stages(self, wildcards: Any) -> str:
        """Spec of a defense that publishes stages of its training."""
        lineage = Lineage.parse(wildcards.lineage)
        stages = {"first_round": 1, "last_round": self._grid.n_rounds(lineage)}
        return canonical_json({**self._training(lineage), **stages})

    def _training(self, lineage: Lineage, left_out: dict[str, Any] | None = None) -> dict[str, Any]:
        """What every defense is told; of its settings not ``left_out``, the overrides when absent."""
        settings = self._grid.defense_settings(lineage)
        return {
            **self._numerics,
            "cell": lineage.cell.key,
            "defense": lineage.defense,
            "seed": self._grid.seed(lineage.cell, lineage.defense),
            "ranks": self._study.ranks_of(lineage.cell.scale),
            "settings": for_spec(settings.model_dump(exclude=left_out or {"overrides"}), "defenses"),
            "max_tokens": self._study.tasks[lineage.cell.task].max_tokens,
        }

    # --- measures ---------------------------------------------------------------------------------------------------

    def attack(self, wildcards: Any) -> str:
        """Spec of attack."""
        lineage, number = Lineage.parse(wildcards.lineage), int(wildcards.round)
        name, index, count = parse_part(wildcards.part)
        row = self._grid.evaluated[lineage.key, number][name]
        settings = self._grid.attack_on(name, lineage)
        chat = {"judges": [judge.model_dump() for judge in self._study.judges]}
        return canonical_json(
            {
                **(chat if self._study.is_chat(lineage.cell.task) else {}),
                **self._numerics,
                "cell": lineage.cell.key,
                "defense": lineage.defense,
                "round": number,
                "attack": name,
                "settings": settings.model_dump(exclude={"overrides", "seed"}),
                "n_examples": row.n_examples,
                "max_tokens": self._study.tasks[lineage.cell.task].max_tokens,
                "seed": self._grid.seed(lineage.cell, "attack", name) if settings.seed is None else settings.seed,
                "shard": index,
                "shards": count,
            }
        )

    def utility(self, wildcards: Any) -> str:
        """Spec of utility."""
        lineage = Lineage.parse(wildcards.lineage)
        assert self._study.utility is not None
        spec = {"cell": lineage.cell.key, "defense": lineage.defense, "round": int(wildcards.round)}
        settings = self._study.utility.model_dump(exclude=set(OTHER_JOBS))
        seed = self._grid.seed(lineage.cell, "utility")
        return canonical_json({**spec, **self._numerics, "settings": settings, "seed": seed})

    # --- tables and figures -----------------------------------------------------------------------------------------

    def collect(self, wildcards: Any = None) -> str:  # noqa: ARG002 - a params function takes wildcards
        """Settings of collect: the kind of every defense."""
        kinds = {UNDEFENDED: UNDEFENDED, **{name: d.kind for name, d in self._study.defenses.items()}}
        return canonical_json({"study": self._study.name, "defense_kinds": kinds})

    def analysis(self, wildcards: Any = None) -> str:  # noqa: ARG002
        """Spec of the summary and the figures."""
        analysis = self._study.analysis.model_dump()
        spec = {**analysis, "scratch_families": self._scratch_families, "controls": self._controls()}
        return canonical_json(spec).replace("<", "\\u003c")  # the same JSON; why: see caption_note

    def caption_note(self, wildcards: Any = None) -> str:  # noqa: ARG002
        """The study's note as captions take it in.

        Snakemake copies the parameters of a reported job unescaped into a ``<script>`` of its report. Nothing there can
        end one or begin a comment: a backslash follows every ``<``.
        """
        note, others = self._study.analysis.caption_note, self._merged_elsewhere()
        return restructured(" ".join([note, *others] if note else others))

    def _merged_elsewhere(self) -> list[str]:
        """A sentence on adapters that were trained on quantized weights and are merged into others."""
        names = [
            name
            for name, block in self._study.defenses.items()
            if isinstance(block, External) and block.quantized_training == "merge"
        ]
        said = (
            f"Adapters trained on quantized weights are merged into weights without quantization: {', '.join(names)}."
        )
        return [said] if names else []

    def deviations(self, wildcards: Any) -> str:
        """Where the study differs from the published runs, in what a figure is about, as captions take it in."""
        victims = figures()[wildcards.figure].victims
        chat = None if victims == "any" else victims == "chat"
        return restructured("; ".join(self._deviations(chat)))

    def all_deviations(self, wildcards: Any = None) -> str:  # noqa: ARG002
        """The same in everything, as JSON."""
        return canonical_json(self._deviations(None)).replace("<", "\\u003c")  # why: see caption_note

    def scratch_families(self, wildcards: Any = None) -> list[str]:  # noqa: ARG002
        """Names, as captions take them in, of the families whose pretraining compute is this study's own."""
        return [restructured(name) for name in self._scratch_families]

    @property
    def _scratch_families(self) -> list[str]:
        return [name for name, family in self._study.families.items() if family.source == "scratch"]

    def headline(self, wildcards: Any = None) -> list[str]:  # noqa: ARG002
        """Arguments of fit and claims: the entries of the headline iteration."""
        return [f"{name}={n}" for name, n in self._study.analysis.headline_iteration.items()]

    def _controls(self) -> dict[str, str]:
        """No-gradient control -> the attack that it controls: equal but for the gradient."""
        attacks = {name: block for name, block in self._study.attacks.items() if isinstance(block, AttackSettings)}
        return {
            control: name
            for control, settings in attacks.items()
            for name, other in attacks.items()
            if not settings.gradient and settings == other.model_copy(update={"gradient": False}) and other.gradient
        }


class CodeDigests:
    """Digests of the code that the jobs of a study run."""

    def __init__(self, grid: StudyGrid) -> None:
        self._grid, self._study = grid, grid.study

    def of(self, *modules: str) -> str:
        """Digest of the code of a job; with ``versions: strict`` of the versions of its libraries too."""
        digest = code_digest(*modules, "hardscale.runtime.instruction_set")  # which every job settles
        return f"{digest}-{versions_digest(*modules)}" if self._study.versions == "strict" else digest

    def task(self, wildcards: Any) -> str:
        """Digest of the code that makes a task; of a constructed one with its own module and no other."""
        settings = self._study.tasks[wildcards.task]
        own = []
        if not isinstance(settings, ChatTaskSettings) and constructed(wildcards.task, settings):
            own = [f"hardscale.tasks.{settings.kind or wildcards.task}"]
        return self.of(*table.PREPARE_TASK.modules, *own)

    def attack(self, wildcards: Any) -> str:
        """Digest of the attack job's code with the one attack that it runs."""
        lineage = Lineage.parse(wildcards.lineage)
        attack = self._grid.attack_settings(parse_part(wildcards.part)[0], lineage.cell).facts
        chat = self._study.is_chat(lineage.cell.task)
        job = "chat_attack_job" if chat else "attack_job"
        return self.of(f"hardscale.evaluation.{job}", attack.module, *([_CHAT_VICTIM] if chat else []))

    def defense(self, wildcards: Any) -> str:
        """Digest of a defense's trainer and of the attack in text that it trains with."""
        settings = self._grid.defense_settings(Lineage.parse(wildcards.lineage))
        kind, chat = settings.attacks_with, settings.victims == "chat"
        attack = [attack_facts(kind).module, *([_CHAT_VICTIM] if chat else [])] if kind else []
        return self.of(settings.trainer.partition(":")[0], *attack)

    def figure(self, wildcards: Any) -> str:
        """Digest of one figure's module and the style."""
        return self.of(f"hardscale.figures.{wildcards.figure}")
