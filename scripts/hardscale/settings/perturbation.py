"""Searches for vectors on prompt embeddings, at test and inside training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from hardscale.settings.blocks import Settings
from hardscale.settings.bounds import AttackTokens, Iterations, PositiveFactor

#: Settings of a perturbation that say which vectors it may be.
BALL = ("eps", "eps_mode", "norm")


class Perturbation(Settings):
    """A search for vectors added to prompt embeddings (section 3). Defaults are those of C-AdvUL's configuration."""

    step_size: PositiveFactor = 1e-4
    step_size_mode: Literal["absolute", "relative_eps", "relative_norm"] = Field(
        "absolute",
        description="absolute: in the embedding table's own units, whatever the model scales them by; relative_eps: "
        "times eps; relative_norm: times the mean embedding norm.",
    )
    eps: PositiveFactor | None = Field(0.05, description="Radius of the ball around each token; null for none.")
    eps_mode: Literal["absolute", "relative_norm"] = Field(
        "relative_norm",
        description="absolute: in the embedding table's own units; relative_norm: times the mean L2 norm of the "
        "vocabulary's embeddings.",
    )
    norm: Literal["l2", "linf"] = Field("l2", description="Of the ball around each token.")
    step_rule: Literal["sign", "l2", "adam"] = Field("sign", description="l2: the gradient scaled to length 1.")
    init: Literal["zero", "uniform_ball"] = "zero"
    positions: Literal["prompt", "user", "suffix"] = Field(
        "prompt", description="prompt: all tokens before the answer, template included; suffix: added tokens alone."
    )
    n_suffix_tokens: AttackTokens = Field(20, description="positions: suffix.")
    keep: Literal["last", "best"] = Field("last", description="Iterate that is used.")

    @property
    def eps_projects_only(self) -> bool:
        """Whether ``eps`` only puts back vectors that left the ball: neither start nor steps depend on it."""
        return self.eps is not None and not self.needs_ball

    @property
    def needs_ball(self) -> bool:
        """Whether the start or the steps are measured by the ball."""
        return self.step_size_mode == "relative_eps" or self.init == "uniform_ball"

    @model_validator(mode="after")
    def _ball_where_needed(self) -> Perturbation:
        for key, value in (("step_size_mode", "relative_eps"), ("init", "uniform_ball")):
            if self.eps is None and getattr(self, key) == value:
                raise ValueError(f"{key}: {value} needs a ball; give eps")
        return self


class InnerAttack(Perturbation):
    """The attack of every training step."""

    steps: Iterations = 10
