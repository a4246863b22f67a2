"""The typed blocks of a study for defenses: adversarial training in rounds, continuous training, what others trained.

A block is all that is known of a defense outside of the module that trains it: its job, its trainer, what it is for.
No torch and no transformers here. Sections are those of "Efficient Adversarial Training in LLMs with Continuous
Attacks" (arXiv 2405.15589) unless another source is named.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hardscale.settings.attack_base import Allowed
from hardscale.settings.attacks import AttackSettings
from hardscale.settings.blocks import Overridable, Settings
from hardscale.settings.bounds import (
    AttackTokens,
    BatchSize,
    Count,
    CutOff,
    Epochs,
    Examples,
    Factor,
    Flag,
    Fraction,
    FractionBelowOne,
    Iterations,
    Line,
    PositiveFactor,
    PositiveFraction,
    Rounds,
    Steps,
    Tokens,
    TopK,
    Whole,
    size,
)
from hardscale.settings.perturbation import InnerAttack
from hardscale.settings.training import ExposureSettings, OptimizerSettings
from hardscale.settings.words import found


class LoraSettings(Settings):
    """Low-rank adapters (appendix on hyperparameters)."""

    rank: Count = 64
    alpha: PositiveFactor = 16.0
    dropout: FractionBelowOne = 0.1
    targets: Literal["all-linear"] | Annotated[list[Line], size(1_000)] = "all-linear"


class Defense(Overridable):
    """What every named defense has.

    Attributes:
        job: name of its kind of job (:mod:`hardscale.plan.table`).
        trainer: ``module:function`` that its ranks run; None where nothing is trained here.
        label: what figures call it.
        victims: models that it is for.
        trains_on: perturbations that it trains against: discrete tokens, embeddings, or unknown ones.
        account: function of :mod:`hardscale.analysis.cost` that says its passes; None where they are not known.
    """

    job: ClassVar[str]
    trainer: ClassVar[str | None] = None
    label: ClassVar[str]
    victims: ClassVar[Literal["chat", "classifiers"]]
    trains_on: ClassVar[Literal["discrete", "continuous"] | None] = None
    account: ClassVar[str | None] = None

    kind: str

    @property
    def n_rounds(self) -> int:
        """Models that it publishes one after another: one, unless a block says otherwise."""
        return 1

    @property
    def attacks_with(self) -> str | None:
        """Kind of the attack in text that its training runs, whose code is its own too."""
        return None


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


class AdversarialRounds(Defense):
    """Iterative adversarial training (section 5): attack, pool, mix, train; repeated."""

    job = "adversarial_rounds"
    trainer = "hardscale.training.rounds:adversarial_rounds"
    label = "adversarial rounds (discrete)"
    victims = "classifiers"
    trains_on = "discrete"
    account = "rounds"
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
    exposure: ExposureSettings = Field(
        ExposureSettings(), description="Random tokens in the clean examples of the training set."
    )
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

    @property
    def n_rounds(self) -> int:
        """Rounds, each of which is published."""
        return self.rounds

    @property
    def attacks_with(self) -> str:
        """The attack of its rounds."""
        return self.attack.kind


class Continuous(Defense):
    """What the defenses of chat models by attacks in embedding space share."""

    attack: InnerAttack | None = Field(InnerAttack(), description="null: the same training without an attack.")
    steps: Steps | None = Field(None, description="Optimizer steps; wins over epochs.")
    batch_size: BatchSize = Field(64, description="Rows of a step, over all ranks and micro-batches.")
    micro_batch: BatchSize | None = Field(None, description="Rows at a time; matters for microbatch_mean alone.")
    max_tokens: Tokens = 256
    adversarial_share: PositiveFraction = 0.125
    normalize: Literal["global", "microbatch_mean"] = Field(
        "global", description="Token means over a step, or over each micro-batch as published."
    )
    dropout_in_attack: Flag = Field(
        False, description="Keep dropout on during the attack, as published; off, it sees the model without."
    )
    share_prompts: Flag = Field(
        True,
        description="Run the prompt of both answers once, where the architecture can; false: twice, as published.",
    )
    lora: LoraSettings | None = Field(LoraSettings(), description="null trains all weights.")
    quantize: Literal["nf4"] | None = Field(None, description="4-bit base weights, on CUDA only.")
    optimizer: OptimizerSettings = OptimizerSettings(
        kind="adamw", learning_rate=2e-4, schedule="cosine", weight_decay=0.001, max_grad_norm=0.3
    )
    utility_weight: Factor = 1.0

    job = "continuous"
    trainer = "hardscale.training.continuous.trainer:continuous"
    victims = "chat"
    trains_on = "continuous"
    account = "continuous"


class CAdvUL(Continuous):
    """C-AdvUL: towards the safe answer, away from the harmful one, useful meanwhile (equation 3)."""

    label = "C-AdvUL"
    kind: Literal["c_advul"]
    epochs: Epochs = 5
    toward_weight: Factor = 0.5
    away_weight: Factor = 0.5
    toward_cutoff: CutOff | None = Field(0.5, description="Mean cross-entropy below which the term flattens.")
    away_cutoff: CutOff | None = Field(-5.0, description="Mean log-probability below which the term flattens.")
    cutoff_form: Literal["continuous", "published"] = "continuous"
    away_loss: Literal["log_p", "log_1_minus_p"] = "log_p"


class CAdvIPO(Continuous):
    """C-AdvIPO: preference of the safe over the harmful answer under attack (equation 4)."""

    label = "C-AdvIPO"
    kind: Literal["c_advipo"]
    epochs: Epochs = 20
    max_tokens: Tokens = 128
    adversarial_share: PositiveFraction = 1.0
    loss: Literal["ipo", "dpo", "npo"] = "ipo"
    beta: PositiveFactor = 0.25
    preference_weight: PositiveFactor = 1.0
    away_cutoff: CutOff | None = Field(
        -5.0, description="Token log-probability below which rejected tokens are not pushed further down."
    )
    toward_cutoff: CutOff | None = Field(None, description="... above minus which a chosen one is let be.")
    cutoff_form: Literal["clamp", "zero"] = Field(
        "clamp", description="zero: the token counts as 0, as published, and the reference is not cut at all."
    )


class R2D2(Defense):
    """R2D2: adversarial training on discrete suffixes that persist (arXiv 2402.04249)."""

    job = "continuous"
    trainer = "hardscale.training.continuous.r2d2:r2d2"
    label = "R2D2"
    victims = "chat"
    trains_on = "discrete"
    account = "persistent_suffixes"

    kind: Literal["r2d2"]
    steps: Steps = 500
    pool_size: Count = 180
    cases_per_step: Count = Field(8, description="Suffixes updated and trained on in each step.")
    gcg_steps: Count = 5
    n_candidates: Count = 512
    top_k: TopK = 256
    n_attack_tokens: AttackTokens = 20
    allowed: Allowed = Field("printable_ascii", description="Tokens of suffixes.")
    reset_every: Steps = 50
    reset_share: Fraction = 0.2
    utility_batch: BatchSize = 32
    max_tokens: Tokens = 256
    away_weight: Factor = 1.0
    toward_weight: Factor = 1.0
    utility_weight: Factor = 1.0
    share_prompts: Flag = Field(True, description="Run the prompt of both answers once, where possible.")
    lora: LoraSettings | None = None
    optimizer: OptimizerSettings = OptimizerSettings(
        kind="adamw", learning_rate=2e-5, schedule="constant", max_grad_norm=1.0
    )

    @property
    def attacks_with(self) -> Literal["gcg"]:
        """Its suffixes are GCG's."""
        return "gcg"


class CAt(Defense):
    """Continuous adversarial training of a classifier: clean loss and loss under an untargeted embedding attack."""

    job = "c_at"
    trainer = "hardscale.training.c_at:c_at"
    label = "continuous"
    victims = "classifiers"
    trains_on = "continuous"
    account = "classifier"
    kind: Literal["c_at"]
    attack: InnerAttack = InnerAttack(step_size=0.25, step_size_mode="relative_eps")
    epochs: Epochs | None = Field(1, description="Passes over the training split; give this or steps.")
    steps: Steps | None = None
    batch_size: BatchSize = 8
    clean_weight: Factor = 1.0
    adversarial_weight: PositiveFactor = 1.0
    optimizer: OptimizerSettings = OptimizerSettings(schedule="constant")
    exposure: ExposureSettings = Field(ExposureSettings(), description="Random tokens where attacks write.")
    checkpoints: Rounds = Field(1, description="Rounds published: equal shares of the steps.")
    n_clean: Examples = 1_000

    @model_validator(mode="after")
    def _whole_prompts(self) -> CAt:
        if self.attack.positions != "prompt":
            raise ValueError(f"attack.positions: found {self.attack.positions}; a classifier takes prompt")
        if self.epochs is None and self.steps is None:
            raise ValueError("epochs: found null beside steps: null; give one of them")
        return self

    @property
    def n_rounds(self) -> int:
        """Published stages of the one training."""
        return self.checkpoints


class External(Defense):
    """A defense that somebody else trained: a model, or an adapter on one. Its compute is unknown."""

    job = "import_external"
    label = "external"
    victims = "chat"
    kind: Literal["external"]
    base: Line | None = Field(None, description="hub:org/name[@revision] or a folder; the cell's own model if absent.")
    adapter: Line | None = Field(None, description="PEFT adapter in safetensors: hub:org/name[@revision] or a folder.")
    tokenizer: Line | None = Field(
        None, description="Tokenizer where the checkpoint has none; the base model's when absent."
    )
    quantized_training: Literal["refuse", "merge"] = Field(
        "refuse",
        description="An adapter whose files say that it was trained on quantized weights: merge puts it into the "
        "base's own weights, on which it was not trained, and says so in manifest and captions.",
    )

    @model_validator(mode="after")
    def _something_is_given(self) -> External:
        if not self.base and not self.adapter:
            raise ValueError("an external defense needs base, adapter or both")
        if self.quantized_training == "merge" and not self.adapter:
            raise ValueError("quantized_training: merge is of an adapter, and none is given")
        return self


def training_attack(defense: Settings) -> InnerAttack | None:
    """The attack on embeddings that a defense trains against; None where it has none, or it is not known."""
    attack = getattr(defense, "attack", None)
    return attack if isinstance(attack, InnerAttack) else None
