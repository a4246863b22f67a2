"""The blocks of a study for optimizers and for finetuning the classifier (arXiv 2407.18213, section 3)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hardscale.settings.blocks import Overridable, Settings
from hardscale.settings.bounds import (
    AttackTokens,
    BatchSize,
    Epochs,
    Examples,
    Flag,
    Fraction,
    FractionBelowOne,
    LearningRate,
    Real,
    Steps,
    WarmupSteps,
)


class OptimizerSettings(Settings):
    """Optimizer and schedule. The defaults are the paper's (Adafactor, fixed scale, appendix on training)."""

    kind: Literal["adafactor", "adamw"] = "adafactor"
    learning_rate: LearningRate = 1e-5
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="linear, cosine: to 0 at the last step."
    )
    warmup_steps: WarmupSteps = 0
    weight_decay: Annotated[float, Real(0, 10)] = 0.0
    betas: tuple[FractionBelowOne, FractionBelowOne] = Field((0.9, 0.999), description="AdamW only.")
    factored: Flag = Field(
        True,
        description="Adafactor only; false keeps the whole second moment, a deviation that ZeRO 1 and above needs.",
    )
    max_grad_norm: Annotated[float, Real(1e-12, 1e6)] | None = Field(
        1.0, description="Global gradient norm clip; null for none."
    )


class ExposureSettings(Settings):
    """Random tokens in the modifiable chunk of some training examples (not in the paper; a named deviation)."""

    probability: Fraction = 0.0
    max_tokens: AttackTokens = 10


class FinetuneSettings(Overridable):
    """Training of the undefended classifier (section 3): 3 epochs, batch 8, float32."""

    epochs: Epochs | None = Field(3, description="Passes over the training split; give this or steps.")
    steps: Steps | None = Field(None, description="Optimizer steps; wins over epochs.")
    batch_size: BatchSize = Field(8, description="Examples an optimizer step sees, over all ranks.")
    optimizer: OptimizerSettings = OptimizerSettings()
    exposure: ExposureSettings = ExposureSettings()
    n_clean: Examples = Field(1_000, description="Validation examples of the clean-accuracy evaluation.")

    @model_validator(mode="after")
    def _some_steps(self) -> FinetuneSettings:
        if self.epochs is None and self.steps is None:
            raise ValueError("epochs: found null beside steps: null; give one of them")
        return self
