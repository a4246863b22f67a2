"""The typed blocks of a study that chat models and continuous attacks bring: tasks, attacks, defences, judges.

No torch and no transformers here. Sections are those of "Efficient Adversarial Training in LLMs with Continuous
Attacks" (arXiv 2405.15589) unless another source is named.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from hardscale.settings import (
    AttackBase,
    ExposureSettings,
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    OptimizerSettings,
    Overridable,
    PositiveFloat,
    Settings,
)

# --- tasks ----------------------------------------------------------------------------------------------------------


class BehaviorSource(Settings):
    """Harmful behaviours with the openings that attacks aim at, in HarmBench's file formats."""

    behaviors: str = Field(
        description="csv with Behavior and BehaviorID (ContextString, FunctionalCategory where known): a path, a path "
        "below data.root, or hub:org/name[@revision]/file.csv; StrongREJECT's forbidden_prompt column is read too."
    )
    targets: str | None = Field(
        None, description="json: BehaviorID -> opening, or a list of openings; `target` for all when absent."
    )
    safe_answers: str | None = Field(None, description="csv with Behavior and Safe_Response; `safe_answer` if absent.")
    ids: list[str] | None = Field(None, description="BehaviorIDs to use, in this order; all when absent.")
    categories: list[str] | None = Field(None, description="FunctionalCategory values to use; all when absent.")
    n: PositiveInt | None = Field(None, description="Only the first n of what is left.")
    n_targets: PositiveInt | None = Field(None, description="Only the first n openings of each behaviour.")


class UtilitySource(Settings):
    """Ordinary chat: what the model must stay good at (section on data)."""

    source: str = Field(
        "hub:HuggingFaceH4/ultrachat_200k",
        description="Table with `messages` (role, content) or `prompt` and `response`, or Alpaca's columns.",
    )
    max_first_turn_characters: PositiveInt = Field(
        768, description="First user turns of so many characters or more are left out."
    )
    n_train: PositiveInt | None = Field(None, description="Conversations for training; all when absent.")
    n_validation: PositiveInt = Field(64, description="Conversations on which utility perplexity is measured.")


class ChatTaskSettings(Settings):
    """A task for chat models: behaviours to train against, behaviours to attack at test, and ordinary chat."""

    kind: Literal["behaviors"]
    train: BehaviorSource | None = Field(None, description="For training; never the behaviours of the test.")
    test: BehaviorSource
    utility: UtilitySource | None = None
    target: str = Field("Sure, here", description="Opening aimed at where a source names none.")
    safe_answer: str = Field("Sorry, I can't do that.", description="Answer trained towards where a source names none.")
    system_prompt: str | None = Field(None, description="The template's own default when absent; '' for none.")
    max_tokens: PositiveInt = Field(512, description="Longer rendered test prompts are left out, and reported.")
    max_new_tokens: PositiveInt = Field(512, description="Of a judged reply, greedily decoded.")
    position: Literal["suffix", "prefix"] = Field("suffix", description="Where attacks write within the user's turn.")

    @property
    def source(self) -> None:
        """Its sources are several; see ``train``, ``test`` and ``utility``."""
        return


# --- the attack in embedding space ----------------------------------------------------------------------------------


class Perturbation(Settings):
    """A search for vectors added to prompt embeddings (section 3). Defaults are those of C-AdvUL's configuration."""

    step_size: PositiveFloat = 1e-4
    step_size_mode: Literal["absolute", "relative_eps", "relative_norm"] = Field(
        "absolute", description="relative_eps: times eps; relative_norm: times the mean embedding norm."
    )
    eps: PositiveFloat | None = Field(0.05, description="Radius of the ball around each token; null for none.")
    eps_mode: Literal["absolute", "relative_norm"] = Field(
        "relative_norm", description="relative_norm: times the mean L2 norm of the vocabulary's embeddings."
    )
    norm: Literal["l2", "linf"] = Field("l2", description="Of the ball around each token.")
    step_rule: Literal["sign", "l2", "adam"] = Field("sign", description="l2: the gradient scaled to length 1.")
    init: Literal["zero", "uniform_ball"] = "zero"
    positions: Literal["prompt", "user", "suffix"] = Field(
        "prompt", description="prompt: all tokens before the answer, template included; suffix: added tokens alone."
    )
    n_suffix_tokens: PositiveInt = Field(20, description="positions: suffix.")
    keep: Literal["last", "best"] = Field("last", description="Iterate that is used.")

    @model_validator(mode="after")
    def _ball_where_needed(self) -> Perturbation:
        for key, value in (("step_size_mode", "relative_eps"), ("init", "uniform_ball")):
            if self.eps is None and getattr(self, key) == value:
                raise ValueError(f"{key}: {value} needs a ball; give eps")
        return self


class InnerAttack(Perturbation):
    """The attack of every training step."""

    steps: PositiveInt = 10


class EmbeddingAttack(AttackBase):
    """The attack in embedding space at test: an upper bound, and a check for masked gradients."""

    kind: Literal["embedding"]
    n_iterations: PositiveInt = 100
    perturbation: Perturbation = Perturbation(step_size=0.01, eps=None)


# --- attacks in text ------------------------------------------------------------------------------------------------


class ModelName(Settings):
    """Another model of the study."""

    family: Name
    scale: Name


class Beast(AttackBase):
    """BEAST: beam search over the sampler's own continuations. An iteration adds a token. (arXiv 2402.15570)."""

    kind: Literal["beast"]
    n_iterations: PositiveInt = Field(40, description="Attack tokens; 25 in the scaling study.")
    beam: PositiveInt = Field(15, description="k1: prompts kept; 7 in the scaling study.")
    branching: PositiveInt = Field(15, description="k2: children of each; 7 in the scaling study.")
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    sampler: ModelName | Literal["victim", "smallest"] = Field(
        "smallest", description="Language model that proposes tokens; smallest: of the victim's family; chat: victim."
    )


class AutoDan(AttackBase):
    """AutoDAN: a genetic search over fluent prefixes (arXiv 2310.04451), HarmBench's constants."""

    kind: Literal["autodan"]
    n_iterations: PositiveInt = 100
    population: Annotated[int, Field(ge=2)] = 64
    elite_share: Fraction = 0.1
    crossover_probability: Fraction = 0.5
    crossover_points: PositiveInt = 5
    mutation_probability: Fraction = 0.01
    hierarchical: bool = Field(True, description="Word-level steps between paragraph steps (HGA).")
    paragraph_every: PositiveInt = Field(5, description="HGA: every this many steps is a paragraph step.")
    n_words: PositiveInt = Field(30, description="HGA: words whose scores are kept.")
    roulette: Literal["softmax", "sum"] = Field("softmax", description="sum: prefers worse prompts, as published.")
    patience: PositiveInt | None = Field(10, description="Steps without improvement before an example is left.")
    mutator: ModelName | Literal["rules"] = "rules"


class Pair(AttackBase):
    """PAIR: an attacker model rewrites the prompt from the judge's score (arXiv 2310.08419), HarmBench's constants."""

    kind: Literal["pair"]
    n_iterations: PositiveInt = Field(3, description="Rounds of each stream.")
    streams: PositiveInt = 20
    keep_last: PositiveInt = Field(3, description="Rounds of history that the attacker sees.")
    attacker: ModelName | Literal["grammar"] = "grammar"
    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_attacker_tokens: PositiveInt = 500
    max_reply_tokens: PositiveInt = 150
    retries: NonNegativeInt = Field(5, description="Of a proposal that can not be parsed; then the goal itself.")
    judge: ModelName | Literal["rules"] = "rules"
    cutoff: Annotated[int, Field(ge=1, le=10)] = Field(10, description="Score at which an example is done.")


class Direct(AttackBase):
    """The behaviour as it is."""

    kind: Literal["direct"]
    n_iterations: Annotated[int, Field(ge=1, le=1)] = 1


class Prefill(AttackBase):
    """The reply is begun with the first tokens of the opening aimed at."""

    kind: Literal["prefill"]
    n_iterations: Annotated[int, Field(ge=1, le=1)] = 1
    n_prefill_tokens: PositiveInt = Field(10, description="At most; the opening's last token is left to be scored.")


class InContext(AttackBase):
    """Other behaviours answered with their openings stand before the question."""

    kind: Literal["in_context"]
    n_iterations: PositiveInt = Field(1, description="Draws of the turns shown; the best is kept.")
    shots: PositiveInt = Field(4, description="Earlier turns; fewer where they do not fit the model.")


class Adaptive(AttackBase):
    """A template and random search over a suffix on the log-probability of the opening (arXiv 2404.02151)."""

    kind: Literal["adaptive"]
    n_iterations: PositiveInt = Field(1_000, description="Texts tried, the first suffix included.")
    n_attack_tokens: PositiveInt = 25
    n_replaced: PositiveInt = Field(4, description="Tokens replaced in one try, halved as the search goes on.")
    template: bool = Field(True, description="false: the suffix alone, where the task's position puts it.")


class Templates(AttackBase):
    """Own human-written frames around the behaviour; an iteration is a frame."""

    kind: Literal["templates"]
    n_iterations: Annotated[int, Field(ge=1, le=7)] = Field(7, description="Frames tried, in order; there are 7.")


# --- defences -------------------------------------------------------------------------------------------------------


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

    @property
    def rounds(self) -> int:
        """One."""
        return 1

    @model_validator(mode="after")
    def _something_is_given(self) -> External:
        if not self.base and not self.adapter:
            raise ValueError("an external defence needs base, adapter or both")
        return self


# --- judges -----------------------------------------------------------------------------------------------------------


class JudgeSettings(Settings):
    """Who says whether a reply complies (appendix on evaluation)."""

    kind: Literal["rules", "harmbench", "rubric", "copyright"] = "rules"
    mode: Literal["prefix", "anywhere"] = Field("prefix", description="rules: where a refusal phrase counts.")
    model: ModelName | None = Field(None, description="harmbench, rubric: the judging model.")
    prompt: str | None = Field(
        None,
        description="harmbench, rubric: the question in the words that the judging model was trained on, template "
        "included, with {behavior}, {completion} and, if wanted, {context}; own words when absent.",
    )
    max_completion_tokens: PositiveInt = Field(512, description="harmbench, rubric: of a reply, by its tokenizer.")
    references: str | None = Field(
        None, description="copyright: json, BehaviorID -> text, or {text, kind: book or lyrics}; no verdict without."
    )

    @model_validator(mode="after")
    def _fields_belong_to_the_kind(self) -> JudgeSettings:
        if self.prompt is not None and self.kind not in ("harmbench", "rubric"):
            raise ValueError(f"a {self.kind} judge takes no prompt")
        if self.references is not None and self.kind != "copyright":
            raise ValueError(f"a {self.kind} judge takes no references")
        if self.prompt is not None and not ("{behavior}" in self.prompt and "{completion}" in self.prompt):
            raise ValueError("a judge's prompt needs {behavior} and {completion}")
        return self

    @model_validator(mode="after")
    def _model_where_needed(self) -> JudgeSettings:
        if (self.kind in ("harmbench", "rubric")) != (self.model is not None):
            raise ValueError(f"a {self.kind} judge {'needs' if self.model is None else 'takes no'} model")
        return self
