"""The models that play a role in the attacks of a study besides the victim, and as judges."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from hardscale.chat_settings import ModelName
from hardscale.for_rules import for_rules
from hardscale.holdings import Holdings
from hardscale.paths import Lineage, manifests, parse_part

#: Attack field that names another model -> its role in the attack.
_ROLES = ("sampler", "mutator", "attacker", "judge")


class AttackHelpers:
    """Which further models the attacks of a study use, and as what."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings, self._study = holdings, holdings.study

    @property
    def needed(self) -> bool:
        """Whether any attack of the study uses further models."""
        return bool(self._attacks_with_models) or self._judges_with_models

    @for_rules
    def models(self, wildcards: Any) -> list[str]:
        """Inputs of an attack besides its victim: the models that play a role in it."""
        return manifests(self._of(wildcards).values())

    @for_rules
    def roles(self, wildcards: Any) -> list[str]:
        """Arguments of an attack: which of those models plays which role."""
        found = self._of(wildcards).items()
        return [word for role, folder in found for word in ("--helper", f"{role}={folder}")]

    def _of(self, wildcards: Any) -> dict[str, Path]:
        """Role -> folder of the model that plays it."""
        attack, cell = parse_part(wildcards.part)[0], Lineage.parse(wildcards.lineage).cell
        chat = self._study.is_chat(cell.task)
        if attack not in self._attacks_with_models and not (self._judges_with_models and chat):
            return {}
        settings = self._holdings.attack_settings(attack, cell)
        found = {}
        for role in _ROLES:
            asked = getattr(settings, role, None)
            if isinstance(asked, ModelName):
                found[role] = self._holdings.base(asked.family, asked.scale)
            elif asked == "smallest" and not chat:
                found[role] = self._holdings.base(cell.family, self._study.scales(cell.family)[0])
        if chat:
            for i, judge in enumerate(self._study.judges):
                if judge.model is not None:
                    found[f"judge{i}"] = self._holdings.base(judge.model.family, judge.model.scale)
        return found

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
