"""The blocks of a study that say what is run: cells, attacks on defences, and what figures look at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from hardscale.settings.blocks import NonNegativeInt, Settings, Where


class GridRow(Settings):
    """Cells: every task x family x scale x seed named here."""

    tasks: list[str]
    families: list[str]
    scales: list[str] | None = Field(None, description="All scales of the family when absent.")
    seeds: list[NonNegativeInt]


class EvaluateRow(Settings):
    """Which attacks are run on which models."""

    attacks: list[str]
    defenses: list[str] = Field(default_factory=lambda: ["none"], description="`none` is the undefended model.")
    rounds: Literal["paper", "all", "last"] | list[NonNegativeInt] = Field(
        "paper", description="Of iterative defences; paper: about ten, geometrically spaced."
    )
    where: Where = Where()
    n_examples: PositiveInt = Field(200, description="Validation examples looked at; the correct ones are attacked.")
    shards: PositiveInt = Field(1, description="Jobs that one attack on one model is split into.")


class AnalysisSettings(Settings):
    """What figures and fits look at."""

    headline_iteration: dict[str, PositiveInt] = Field(
        default_factory=dict, description="Attack name -> iteration of the size plots; its last one when absent."
    )
    target_asr: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=lambda: [0.02, 0.05], description="Attack success rates of the offense-defense curves."
    )
    caption_note: str = Field("", description="Added to every caption: this study's deviations from the paper.")
