"""The typed blocks of a study for defences beyond adversarial training in rounds: those of chat models, and continuous.

No torch and no transformers here. Sections are those of "Efficient Adversarial Training in LLMs with Continuous
Attacks" (arXiv 2405.15589) unless another source is named.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from hardscale.settings.attacks import Allowed
from hardscale.settings.blocks import Fraction, NonNegativeFloat, Overridable, PositiveFloat, Settings
from hardscale.settings.embedding import InnerAttack
from hardscale.settings.training import ExposureSettings, OptimizerSettings


class LoraSettings(Settings):
    """Low-rank adapters (appendix on hyperparameters)."""

    rank: PositiveInt = 64
    alpha: PositiveFloat = 16.0
    dropout: Fraction = 0.1
    targets: Literal["all-linear"] | list[str] = "all-linear"


class Continuous(Overridable):
    """What the defences of chat models by attacks in embedding space share."""

    attack: InnerAttack | None = Field(InnerAttack(), description="null: the same training without an attack.")
    steps: PositiveInt | None = Field(None, description="Optimizer steps; wins over epochs.")
    batch_size: PositiveInt = Field(64, description="Rows of a step, over all ranks and micro-batches.")
    micro_batch: PositiveInt | None = Field(None, description="Rows at a time; matters for microbatch_mean alone.")
    max_tokens: PositiveInt = 256
    adversarial_share: Annotated[float, Field(gt=0, le=1)] = 0.125
    normalise: Literal["global", "microbatch_mean"] = Field(
        "global", description="Token means over a step, or over each micro-batch as published."
    )
    dropout_in_attack: bool = Field(
        False, description="Keep dropout on during the attack, as published; off, it sees the model without."
    )
    share_prompts: bool = Field(
        True,
        description="Run the prompt of both answers once, where the architecture can; false: twice, as published.",
    )
    lora: LoraSettings | None = Field(LoraSettings(), description="null trains all weights.")
    quantize: Literal["nf4"] | None = Field(None, description="4-bit base weights, on CUDA only.")
    optimizer: OptimizerSettings = OptimizerSettings(
        kind="adamw", learning_rate=2e-4, schedule="cosine", weight_decay=0.001, max_grad_norm=0.3
    )
    utility_weight: NonNegativeFloat = 1.0

    @property
    def rounds(self) -> int:
        """One: such a defence trains once."""
        return 1


class CAdvUL(Continuous):
    """C-AdvUL: towards the safe answer, away from the harmful one, useful meanwhile (equation 3)."""

    kind: Literal["c_advul"]
    epochs: PositiveFloat = 5
    toward_weight: NonNegativeFloat = 0.5
    away_weight: NonNegativeFloat = 0.5
    toward_cutoff: float | None = Field(0.5, description="Mean cross-entropy below which the term flattens.")
    away_cutoff: float | None = Field(-5.0, description="Mean log-probability below which the term flattens.")
    cutoff_form: Literal["continuous", "published"] = "continuous"
    away_loss: Literal["log_p", "log_1_minus_p"] = "log_p"


class CAdvIPO(Continuous):
    """C-AdvIPO: preference of the safe over the harmful answer under attack (equation 4)."""

    kind: Literal["c_advipo"]
    epochs: PositiveFloat = 20
    max_tokens: PositiveInt = 128
    adversarial_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    loss: Literal["ipo", "dpo", "npo"] = "ipo"
    beta: PositiveFloat = 0.25
    preference_weight: PositiveFloat = 1.0
    away_cutoff: float | None = Field(-5.0, description="Token log-probability below which a rejected one is let be.")
    toward_cutoff: float | None = Field(None, description="... above minus which a chosen one is let be.")
    cutoff_form: Literal["clamp", "zero"] = Field("clamp", description="zero: the token counts as 0, as published.")


class R2D2(Overridable):
    """R2D2: adversarial training on discrete suffixes that persist (arXiv 2402.04249)."""

    kind: Literal["r2d2"]
    steps: PositiveInt = 500
    pool_size: PositiveInt = 180
    cases_per_step: PositiveInt = Field(8, description="Suffixes updated and trained on in each step.")
    gcg_steps: PositiveInt = 5
    n_candidates: PositiveInt = 512
    top_k: PositiveInt = 256
    n_attack_tokens: PositiveInt = 20
    allowed: Allowed = Field("printable_ascii", description="Tokens of suffixes.")
    reset_every: PositiveInt = 50
    reset_share: Fraction = 0.2
    utility_batch: PositiveInt = 32
    max_tokens: PositiveInt = 256
    away_weight: NonNegativeFloat = 1.0
    toward_weight: NonNegativeFloat = 1.0
    utility_weight: NonNegativeFloat = 1.0
    share_prompts: bool = Field(True, description="Run the prompt of both answers once, where possible.")
    lora: LoraSettings | None = None
    optimizer: OptimizerSettings = OptimizerSettings(
        kind="adamw", learning_rate=2e-5, schedule="constant", max_grad_norm=1.0
    )

    @property
    def rounds(self) -> int:
        """One: such a defence trains once."""
        return 1


class CAt(Overridable):
    """Continuous adversarial training of a classifier: clean loss and loss under an untargeted embedding attack."""

    kind: Literal["c_at"]
    attack: InnerAttack = InnerAttack(step_size=0.25, step_size_mode="relative_eps")
    epochs: PositiveFloat | None = Field(1, description="Passes over the training split; give this or steps.")
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 8
    clean_weight: NonNegativeFloat = 1.0
    adversarial_weight: PositiveFloat = 1.0
    optimizer: OptimizerSettings = OptimizerSettings(schedule="constant")
    exposure: ExposureSettings = Field(ExposureSettings(), description="Random tokens where attacks write.")
    checkpoints: PositiveInt = Field(1, description="Rounds published: equal shares of the steps.")
    n_clean: PositiveInt = 1_000

    @model_validator(mode="after")
    def _whole_prompts(self) -> CAt:
        if self.attack.positions != "prompt":
            raise ValueError(f"attack.positions: found {self.attack.positions}; a classifier takes prompt")
        if self.epochs is None and self.steps is None:
            raise ValueError("give epochs or steps")
        return self

    @property
    def rounds(self) -> int:
        """Published stages of the one training."""
        return self.checkpoints


class External(Overridable):
    """A defence that somebody else trained: a model, or an adapter on one. Its compute is unknown."""

    kind: Literal["external"]
    base: str | None = Field(None, description="hub:org/name[@revision] or a folder; the cell's own model if absent.")
    adapter: str | None = Field(None, description="PEFT adapter in safetensors: hub:org/name[@revision] or a folder.")
    tokenizer: str | None = Field(None, description="Where the checkpoint ships none; the base's when absent.")
    quantized_training: Literal["refuse", "merge"] = Field(
        "refuse",
        description="An adapter whose files say that it was trained on quantized weights: merge puts it into the "
        "base's own weights, on which it was not trained, and says so in manifest and captions.",
    )

    @property
    def rounds(self) -> int:
        """One."""
        return 1

    @model_validator(mode="after")
    def _something_is_given(self) -> External:
        if not self.base and not self.adapter:
            raise ValueError("an external defence needs base, adapter or both")
        if self.quantized_training == "merge" and not self.adapter:
            raise ValueError("quantized_training: merge is of an adapter, and none is given")
        return self


def training_attack(defense: Settings) -> InnerAttack | None:
    """The attack on embeddings that a defense trains against; None where it has none, or it is not known."""
    attack = getattr(defense, "attack", None)
    return attack if isinstance(attack, InnerAttack) else None
