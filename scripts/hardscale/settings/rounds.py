"""The block of a study for adversarial training in rounds (arXiv 2407.18213, section 5)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hardscale.artifacts.rounds_plan import ramp
from hardscale.settings.attacks import AttackSettings
from hardscale.settings.blocks import Overridable
from hardscale.settings.bounds import BatchSize, Examples, Factor, Flag, Fraction, Iterations, Rounds, Whole
from hardscale.settings.training import ExposureSettings, OptimizerSettings
from hardscale.settings.words import found


class AttackInTraining(AttackSettings):
    """The attack inside adversarial training: the iterations follow a ramp over the rounds."""

    n_iterations: Iterations = Field(8, description="Iterations in the first round.")
    n_iterations_end: Iterations | None = Field(64, description="Iterations in the last round; null for no ramp.")
    ramp_end: Literal["last_round", "one_later"] = Field(
        "last_round",
        exclude_if=lambda value: value == "last_round",
        description="Where the ramp reaches its end; one_later: one round after the last, which is never attacked, as "
        "published for IMDB.",
    )


class AdversarialRounds(Overridable):
    """Iterative adversarial training (section 5): attack, pool, mix, train; repeated."""

    kind: Literal["adversarial_rounds"] = "adversarial_rounds"
    rounds: Rounds = 5
    attack: AttackInTraining = AttackInTraining(kind="gcg")
    n_new_examples: Examples = Field(200, description="Clean training examples attacked in each round.")
    set_size: Examples = Field(1_000, description="Examples of one round's training set.")
    max_adversarial_fraction: Fraction = Field(0.8, description="Largest share of pool examples in that set.")
    loss_rank_weight: Fraction = Field(
        0.5, description="alpha in rho = (1 - alpha) * time + alpha * loss rank, by which the pool is drawn from."
    )
    sampling_decay: Factor = Field(0.005, description="lambda in p ~ exp(lambda * (rho - max rho)).")
    loss_rank: Literal["true", "argsort"] = Field(
        "true", description="argsort: indices instead of ranks, as published."
    )
    batch_size: BatchSize = 8
    epochs: Annotated[int, Whole(1, 10_000)] = 1
    optimizer: OptimizerSettings = OptimizerSettings(schedule="constant")
    carry_optimizer: Flag = Field(True, description="Keep the optimizer state from round to round.")
    exposure: ExposureSettings = Field(ExposureSettings(), description="Of the clean part of the set.")
    n_clean: Examples = 1_000
    rounds_per_job: Rounds | None = Field(None, description="Rounds trained by one job; by scale when absent.")

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, values: Any) -> Any:
        if isinstance(values, dict) and "recency_weight" in values:
            raise ValueError(
                "recency_weight: is called loss_rank_weight now, for the loss rank is what it weighs; "
                f"give loss_rank_weight: {found(values['recency_weight'])}"
            )
        return values

    def iterations(self, number: int) -> int:
        """Iterations of the attack in round ``number``, from 1."""
        span = self.rounds + (self.attack.ramp_end == "one_later")
        return ramp(number - 1, span, self.attack.n_iterations, self.attack.n_iterations_end)
