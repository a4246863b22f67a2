"""The models that play a role in the attacks of a study besides the victim, and as judges."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from hardscale.plan import estimates
from hardscale.plan.grid import StudyGrid
from hardscale.plan.paths import Lineage, manifests, parse_part
from hardscale.settings.attack_base import AttackBase
from hardscale.settings.chat import ModelName


class AttackHelpers:
    """Which further models the attacks of a study use, and as what."""

    def __init__(self, grid: StudyGrid) -> None:
        self._grid, self._study = grid, grid.study

    @cached_property
    def needed(self) -> bool:
        """Whether any attack of the study uses further models."""
        return bool(self._attacks_with_models) or self._judges_with_models

    def models(self, wildcards: Any) -> list[str]:
        """Inputs of an attack besides its victim: the models that play a role in it."""
        return manifests(dict.fromkeys(self._folders(wildcards).values()))

    @property
    def roles(self) -> Callable[[Any], list[str]] | list[str]:
        """Params function: arguments of an attack, which of those models plays which role; none where none does."""

        def found(wildcards: Any) -> list[str]:
            models = self._folders(wildcards).items()
            return [word for role, folder in models for word in ("--helper", f"{role}={folder}")]

        return found if self.needed else []

    def beside(self, wildcards: Any) -> Collection[tuple[str, str]]:
        """Family and scale of each model that an attack holds besides its victim; a model counts once."""
        return set(self.scales(wildcards.lineage, wildcards.part).values()) if self.needed else ()

    def _folders(self, wildcards: Any) -> dict[str, Path]:
        """Role -> folder of the model that plays it."""
        asked = self.scales(wildcards.lineage, wildcards.part)
        return {role: self._grid.base(*scale) for role, scale in asked.items()}

    def scales(self, lineage: str, part: str) -> dict[str, tuple[str, str]]:
        """Role in the attack ``part`` on a model of ``lineage`` -> family and scale of the model that plays it."""
        attack, cell = parse_part(part)[0], Lineage.parse(lineage).cell
        chat = self._study.is_chat(cell.task)
        if attack not in self._attacks_with_models and not (self._judges_with_models and chat):
            return {}
        settings = self._grid.attack_settings(attack, cell)
        found: dict[str, tuple[str, str]] = {}
        for role in settings.facts.roles:
            asked = getattr(settings, role)
            if isinstance(asked, ModelName):
                found[role] = (asked.family, asked.scale)
            elif asked == "smallest" and not chat:
                found[role] = (cell.family, estimates.smallest_scale(self._study, cell.family))
        if chat:
            for i, judge in enumerate(self._study.judges):
                if judge.model is not None:
                    found[f"judge{i}"] = (judge.model.family, judge.model.scale)
        return found

    @cached_property
    def _attacks_with_models(self) -> set[str]:
        return {name for name, block in self._study.attacks.items() if any(map(_asks, self._study.forms(block)))}

    @cached_property
    def _judges_with_models(self) -> bool:
        return any(judge.model is not None for judge in self._study.judges)


def _asks(attack: AttackBase) -> bool:
    """Whether another model plays a role in an attack."""
    asked = [getattr(attack, role) for role in attack.facts.roles]
    return any(isinstance(role, ModelName) or role == "smallest" for role in asked)
