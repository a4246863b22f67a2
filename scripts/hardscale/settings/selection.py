"""The blocks of a study that say what is run: cells, attacks on defenses, and what figures look at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hardscale.settings.blocks import Settings, Where
from hardscale.settings.bounds import Examples, Iterations, Name, Real, Seed, Shards, TaskName, Text, Whole, size
from hardscale.settings.headline import HeadlineKey

#: The name of no defense: the undefended model.
UNDEFENDED = "none"
RoundNumber = Annotated[int, Whole(1, 1_000)]
RoundChoice = RoundNumber | Literal["paper", "last"]


class GridRow(Settings):
    """Cells: every task x family x scale x seed named here."""

    tasks: Annotated[list[TaskName], size(100)]
    families: Annotated[list[Name], size(100)]
    scales: Annotated[list[Name], size(100)] | None = Field(None, description="All scales of the family when absent.")
    seeds: Annotated[list[Seed], size(1_000)]


class EvaluateRow(Settings):
    """Which attacks are run on which models."""

    attacks: Annotated[list[Name], size(1_000)]
    defenses: Annotated[list[Name], size(1_000)] = Field(
        default_factory=lambda: ["none"], description="`none` is the undefended model."
    )
    rounds: Literal["paper", "all", "last"] | Annotated[list[RoundChoice], size(1_000)] = Field(
        "paper",
        description="Of iterative defenses; paper: about ten, geometrically spaced. A list may hold paper and last "
        "beside numbers; numbers beyond a defense's rounds are left out.",
    )
    where: Where = Where()
    n_examples: Examples = Field(200, description="Validation examples looked at; the correct ones are attacked.")
    shards: Shards = Field(1, description="Jobs that one attack on one model is split into.")


class AnalysisSettings(Settings):
    """What figures and fits look at."""

    headline_iteration: Annotated[dict[HeadlineKey, Iterations], size(1_000, least=0)] = Field(
        default_factory=dict,
        description="Attack -> its iteration where a figure, a line or a table shows one alone; the last one when "
        "absent. TASK/ATTACK is of one task, ATTACK@DEFENSE of one defense (none: undefended), TASK/ATTACK@DEFENSE of "
        "both; the most specific entry counts, a task before a defense.",
    )
    target_asr: Annotated[list[Annotated[float, Real(1e-9, 1, below=True)]], size(20)] = Field(
        default_factory=lambda: [0.02, 0.05], description="Attack success rates of the offense-defense curves."
    )
    caption_note: Text = Field("", description="Added to every caption: this study's deviations from the paper.")
