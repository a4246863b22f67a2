"""The block of a study for adversarial training in rounds (arXiv 2407.18213, section 5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hardscale.settings.attacks import AttackSettings
from hardscale.settings.blocks import Overridable
from hardscale.settings.bounds import BatchSize, Examples, Factor, Flag, Fraction, Iterations, Rounds, Whole
from hardscale.settings.training import ExposureSettings, OptimizerSettings


class AttackInTraining(AttackSettings):
    """The attack inside adversarial training: the iterations follow a ramp over the rounds."""

    n_iterations: Iterations = Field(8, description="Iterations in the first round.")
    n_iterations_end: Iterations | None = Field(64, description="Iterations in the last round; null for no ramp.")


class AdversarialRounds(Overridable):
    """Iterative adversarial training (section 5): attack, pool, mix, train; repeated."""

    kind: Literal["adversarial_rounds"] = "adversarial_rounds"
    rounds: Rounds = 5
    attack: AttackInTraining = AttackInTraining(kind="gcg")
    n_new_examples: Examples = Field(200, description="Clean training examples attacked in each round.")
    set_size: Examples = Field(1_000, description="Examples of one round's training set.")
    max_adversarial_fraction: Fraction = Field(0.8, description="Largest share of pool examples in that set.")
    recency_weight: Fraction = Field(0.5, description="alpha in rho = (1 - alpha) * time + alpha * loss rank.")
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
