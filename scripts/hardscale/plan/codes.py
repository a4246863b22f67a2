"""The code of each job, as a digest: another one makes the job run again.

Every method that takes ``wildcards`` is a params function of a rule.
"""

from __future__ import annotations

from typing import Any

from hardscale.artifacts.digest import code_digest, versions_digest
from hardscale.plan.for_rules import for_rules
from hardscale.plan.grid import Holdings
from hardscale.plan.paths import Lineage, parse_part


class Codes:
    """Digests of the code that the jobs of a study run."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings, self._study = holdings, holdings.study

    def of(self, *modules: str) -> str:
        """Digest of the code of a job; with ``versions: strict`` of the versions of its libraries too."""
        digest = code_digest(*modules, "hardscale.runtime.instruction_set")  # which every job settles
        return f"{digest}-{versions_digest(*modules)}" if self._study.versions == "strict" else digest

    @for_rules
    def attack(self, wildcards: Any) -> str:
        """Digest of the attack job's code with the one attack that it runs."""
        lineage = Lineage.parse(wildcards.lineage)
        kind = self._holdings.attack_settings(parse_part(wildcards.part)[0], lineage.cell).kind
        job = "chat_attack_job" if self._study.is_chat(lineage.cell.task) else "attack_job"
        return self.of(f"hardscale.evaluation.{job}", f"hardscale.attacks.{kind}")

    @for_rules
    def rounds(self, wildcards: Any) -> str:
        """Digest of adversarial training with its training attack."""
        kind = self._holdings.defense_settings(Lineage.parse(wildcards.lineage)).attack.kind
        return self.of("hardscale.training.rounds", f"hardscale.attacks.{kind}")

    @for_rules
    def continuous(self, wildcards: Any) -> str:
        """Digest of continuous training: of R2D2 with its attack."""
        if self._holdings.defense_kind(Lineage.parse(wildcards.lineage)) == "r2d2":
            return self.of("hardscale.training.continuous.r2d2", "hardscale.attacks.gcg")
        return self.of("hardscale.training.continuous.trainer")

    @for_rules
    def figure(self, wildcards: Any) -> str:
        """Digest of one figure's module and the style."""
        return self.of(f"hardscale.figures.{wildcards.figure}")
