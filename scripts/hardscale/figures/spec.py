"""What a figure is told about the study beside its tables."""

from __future__ import annotations

from pydantic import Field

from hardscale.settings.selection import AnalysisSettings


class FigureSpec(AnalysisSettings):
    """The study's analysis block, plus the two facts that the tables do not hold."""

    scratch_families: list[str] = Field(
        default_factory=list, description="Families made here: their pretraining compute includes their finetuning."
    )
    controls: dict[str, str] | None = Field(
        None, description="Control attack -> the attack it belongs to; by name (`X-control` of `X`) when absent."
    )

    def control_of(self, attack: str, attacks: set[str]) -> str | None:
        """The attack that ``attack`` is the no-gradient control of, if that one is among ``attacks``."""
        if self.controls is not None:
            parent = self.controls.get(attack)
        else:
            stem = attack.removesuffix("control")
            parent = stem[:-1] if stem != attack and stem[-1:] in ("-", "_", ".") else None
        return parent if parent in attacks else None
