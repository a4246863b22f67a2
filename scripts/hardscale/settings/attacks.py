"""The blocks of a study for the attacks of the scaling study: GCG and random tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from hardscale.settings.blocks import Overridable

Position = Literal["suffix", "infix90", "prefix"]


class AttackBase(Overridable):
    """What every named attack has."""

    kind: str
    position: Position | None = Field(
        None, description="Where in the modifiable chunk the attack writes; the task's `position` when absent."
    )
    n_iterations: PositiveInt


class AttackSettings(AttackBase):
    """A named attack. Defaults are the paper's (appendix on attacks): 10 tokens, 128 candidates, top-256."""

    kind: Literal["gcg", "random_token"]
    n_attack_tokens: PositiveInt = 10
    n_iterations: PositiveInt = Field(10, description="GCG 10 undefended and 128 defended; RandomToken 1,280.")
    n_candidates: PositiveInt = Field(128, description="GCG: replacements tried in each iteration.")
    top_k: PositiveInt = Field(256, description="GCG: tokens kept at each position by gradient.")
    gradient: bool = Field(True, description="GCG: false draws position and token uniformly (no-gradient control).")
    initial_text: str = Field("@&", description="GCG: repeated to n_attack_tokens tokens.")
    candidate_rng: Literal["restart", "per_example"] = Field(
        "restart", description="GCG: restart the stream for every example (paper), or key it by example."
    )
    early_stop: bool = Field(False, description="Stop an example at its first success; leaves `asr` null after it.")
