"""The jobs that chat models and continuous defences add to a study: adoption, continuous training, utility."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardscale.artifacts.manifest import MANIFEST, canonical_json
from hardscale.chat_settings import ModelName
from hardscale.defense_settings import CAt, External
from hardscale.for_rules import for_rules
from hardscale.paths import Lineage, parse_part, undefended
from hardscale.patterns import exactly
from hardscale.study import UNDEFENDED, Cell
from hardscale.utility_jobs import UtilityJobs
from hardscale.utility_settings import OTHER_JOBS

if TYPE_CHECKING:
    from hardscale.jobs import Block, Jobs

#: Defences of chat models that are trained here, by one rule.
_TRAINED = ("c_advul", "c_advipo", "r2d2")
#: Attack field that names another model -> its role in the attack.
_ROLES = ("sampler", "mutator", "attacker", "judge")
#: Tables of chat models, written by one rule.
_TABLES = (
    *(f"{stem}.{suffix}" for stem in ("utility", "gains", "worst", "correlations") for suffix in ("parquet", "csv")),
    "losses.parquet",
)
#: Figure -> tables that it is drawn from besides runs and fits.
_FIGURE_TABLES = {
    "robustness_bars": ("utility", "worst"),
    "ablations": ("utility", "losses", "cost"),
    "loss_correlation": ("utility", "losses"),
    "embedding_losses": ("losses",),
    "chat_defense_compute": ("utility",),
    "chat_asr_by_size": ("utility",),
    "joint_defense_compute": ("cost",),
}


class ChatJobs:
    """What the rules of chat models and continuous defences ask of a study.

    Args:
        jobs: all jobs of the study.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs, self._study, self._layout = jobs, jobs.study, jobs.layout
        self.measures = UtilityJobs(jobs)

    # --- what exists ------------------------------------------------------------------------------------------------

    @property
    def cells(self) -> list[Cell]:
        """Cells of chat models."""
        return [cell for cell in self._jobs.cells if self._study.is_chat(cell.task)]

    @property
    def several_sizes(self) -> bool:
        """Whether some family is asked one task at two scales or more."""
        sizes = Counter((task, family) for task, family, _ in {(c.task, c.family, c.scale) for c in self.cells})
        return max(sizes.values(), default=0) > 1

    def trained(self) -> list[Lineage]:
        """Lineages that the continuous rule trains."""
        return [lineage for lineage in self._jobs.defended if self._kind(lineage) in _TRAINED]

    def external(self) -> list[Lineage]:
        """Lineages whose model somebody else trained."""
        return [lineage for lineage in self._jobs.defended if self._kind(lineage) == "external"]

    @property
    def needed(self) -> bool:
        """Whether the study has chat models or continuous defences at all."""
        return bool(self.cells) or bool(self.c_at_blocks)

    def pattern(self, lineages: list[Lineage]) -> str:
        """Regular expression of exactly these lineages."""
        return exactly(lineages) if lineages else "(?!)"

    def _kind(self, lineage: Lineage) -> str:
        return self._study.defenses[lineage.defense].kind

    @property
    def c_at_blocks(self) -> list[Block]:
        """Jobs of continuous adversarial training of classifiers, by the number of models that each publishes."""
        from hardscale.jobs import Block

        found: dict[int, list[Lineage]] = {}
        for lineage in self._jobs.defended:
            if self._kind(lineage) == "c_at":
                found.setdefault(self._jobs.n_rounds(lineage), []).append(lineage)
        return [Block(f"c_at_{n:02d}", 1, n, tuple(range(1, n + 1)), lineages) for n, lineages in sorted(found.items())]

    def utility_folders(self) -> Iterator[Path]:
        """The folder of every utility job: one for each evaluated chat model."""
        if self._study.utility is not None:
            for key, number in self.evaluated_models():
                yield self._layout.utility(key, number)

    def evaluated_models(self) -> Iterator[tuple[str, int]]:
        """Lineage key and round of every chat model that some attack is run on."""
        chats = {cell.key for cell in self.cells}
        return ((key, n) for key, n in self._jobs.evaluated_models() if Lineage.parse(key).cell.key in chats)

    def attack_folders(self) -> Iterator[Path]:
        """The folder of every attack on a chat model."""
        chats = {cell.task for cell in self.cells}
        depth = len((self._layout.root / "attacks").parts)
        # A large study of classifiers alone has a quarter of a million attacks to look through in vain.
        return (path for path in self._jobs.attack_folders() if path.parts[depth] in chats) if chats else iter(())

    def tables(self) -> list[str]:
        """Tables of chat models; none without any."""
        return [str(self._layout.table(name)) for name in _TABLES] if self.cells else []

    def figure_tables(self, figure: str) -> list[str]:
        """Tables that a figure is drawn from besides runs and fits."""
        return [str(self._layout.table(f"{name}.parquet")) for name in _FIGURE_TABLES.get(figure, ())]

    # --- specs ------------------------------------------------------------------------------------------------------

    @for_rules
    def adopt_spec(self, wildcards: Any) -> str:
        """Spec of adopt: a chat model as it is, or a defence that somebody else trained."""
        if hasattr(wildcards, "cell"):
            lineage, settings = undefended(Cell.parse(wildcards.cell)), None
        else:
            lineage = Lineage.parse(wildcards.lineage)
            external = self._jobs.defense_settings(lineage)
            assert isinstance(external, External)
            settings = external.model_dump(exclude={"overrides"})
        spec = {"cell": lineage.cell.key, "defense": lineage.defense, "external": settings}
        return canonical_json({**spec, "round": 0 if lineage.defense == UNDEFENDED else 1})

    @for_rules
    def continuous_spec(self, wildcards: Any) -> str:
        """Spec of continuous."""
        return canonical_json(self._training_spec(Lineage.parse(wildcards.lineage)))

    @for_rules
    def c_at_spec(self, wildcards: Any) -> str:
        """Spec of c_at."""
        lineage = Lineage.parse(wildcards.lineage)
        settings = self._jobs.defense_settings(lineage)
        assert isinstance(settings, CAt)
        stages = {"first_round": 1, "last_round": settings.rounds}
        return canonical_json({**self._training_spec(lineage), **stages})

    def _training_spec(self, lineage: Lineage) -> dict[str, Any]:
        return {
            "cell": lineage.cell.key,
            "defense": lineage.defense,
            "seed": self._jobs.seed(lineage.cell, lineage.defense),
            "ranks": self._study.ranks_of(lineage.cell.scale),
            "settings": self._jobs.defense_settings(lineage).model_dump(exclude={"overrides"}),
            "max_tokens": self._study.tasks[lineage.cell.task].max_tokens,
        }

    @for_rules
    def utility_spec(self, wildcards: Any) -> str:
        """Spec of utility."""
        lineage = Lineage.parse(wildcards.lineage)
        assert self._study.utility is not None
        spec = {"cell": lineage.cell.key, "defense": lineage.defense, "round": int(wildcards.round)}
        settings = self._study.utility.model_dump(exclude=set(OTHER_JOBS))
        return canonical_json({**spec, "settings": settings, "seed": self._jobs.seed(lineage.cell, "utility")})

    # --- other models of an attack ----------------------------------------------------------------------------------

    def _helpers(self, attack: str, cell: Cell) -> dict[str, Path]:
        """Role -> folder of the model that plays it."""
        chat = self._study.is_chat(cell.task)
        if attack not in self._attacks_with_models and not (self._judges_with_models and chat):
            return {}
        settings = self._jobs.attack_settings(attack, cell)
        found = {}
        for role in _ROLES:
            asked = getattr(settings, role, None)
            if isinstance(asked, ModelName):
                found[role] = self._base(asked.family, asked.scale)
            elif asked == "smallest" and not chat:
                found[role] = self._base(cell.family, self._study.scales(cell.family)[0])
        if chat:
            for i, judge in enumerate(self._study.judges):
                if judge.model is not None:
                    found[f"judge{i}"] = self._base(judge.model.family, judge.model.scale)
        return found

    @property
    def attacks_with_models(self) -> bool:
        """Whether any attack of the study uses further models."""
        return bool(self._attacks_with_models) or self._judges_with_models

    @cached_property
    def _attacks_with_models(self) -> set[str]:
        attacks = self._study.attacks.items()
        asked = {name: [getattr(block, role, None) for role in _ROLES] for name, block in attacks}
        return {
            name for name, roles in asked.items() if any(isinstance(r, ModelName) or r == "smallest" for r in roles)
        }

    @cached_property
    def _judges_with_models(self) -> bool:
        return any(judge.model is not None for judge in self._study.judges)

    def _base(self, family: str, scale: str) -> Path:
        return self._layout.base(family, scale, self._study.families[family].pretrain is not None)

    def _helpers_of(self, wildcards: Any) -> dict[str, Path]:
        return self._helpers(parse_part(wildcards.part)[0], Lineage.parse(wildcards.lineage).cell)

    @for_rules
    def attack_models(self, wildcards: Any) -> list[str]:
        """Inputs of an attack besides its victim: the models that play a role in it."""
        return [str(folder / MANIFEST) for folder in self._helpers_of(wildcards).values()]

    @for_rules
    def attack_roles(self, wildcards: Any) -> list[str]:
        """Arguments of an attack: which of those models plays which role."""
        found = self._helpers_of(wildcards).items()
        return [word for role, folder in found for word in ("--helper", f"{role}={folder}")]

    # --- code digests -----------------------------------------------------------------------------------------------

    @for_rules
    def continuous_code(self, wildcards: Any) -> str:
        """Digest of continuous training: of R2D2 with its attack."""
        discrete = self._kind(Lineage.parse(wildcards.lineage)) == "r2d2"
        return self._jobs.code(
            f"hardscale.training.continuous.{'r2d2' if discrete else 'trainer'}",
            *(["hardscale.attacks.gcg"] if discrete else []),
        )
