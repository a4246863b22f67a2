"""The blocks of a study for the attacks of the scaling study: GCG and random tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hardscale.settings.blocks import Overridable, Settings
from hardscale.settings.bounds import (
    AttackTokens,
    Count,
    FilledText,
    Flag,
    Fraction,
    FractionBelowOne,
    Iterations,
    PositiveFactor,
    PositiveFraction,
    Real,
    Seed,
    Tokens,
    TopK,
    Whole,
)
from hardscale.settings.chat import ModelName
from hardscale.settings.wordings import Named, RatingForms, Source, named

Position = Literal["suffix", "infix90", "prefix"]
#: Tokens that an attack may insert; special tokens are none of them.
Allowed = Literal["printable_ascii", "any"]
#: Which text counts after an iteration of GCG.
Held = Literal["last", "best"]


#: Settings of a perturbation that say which vectors it may be.
BALL = ("eps", "eps_mode", "norm")


class AttackBase(Overridable):
    """What every named attack has."""

    kind: str
    position: Position | None = Field(
        None, description="Where in the modifiable chunk the attack writes; the task's `position` when absent."
    )
    n_iterations: Iterations
    seed: Seed | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Of the attack's random choices, the same on every model, as published (0); derived from the "
        "study's seed, the model's cell and the attack's name when absent.",
    )

    def texts(self, key: str) -> dict[str, Named]:  # noqa: ARG002 - most attacks have none
        """Texts of others that the attack reads, by role; ``key`` is its place in the study."""
        return {}

    def for_victim(self, chat: bool) -> Self:  # noqa: ARG002 - most attacks are the same for both
        """The block with every default filled in that depends on the kind of victim: a chat model or a classifier."""
        return self


class AttackSettings(AttackBase):
    """A named attack. Defaults are the paper's (appendix on attacks): 10 tokens, 128 candidates, top-256."""

    kind: Literal["gcg", "random_token"]
    n_attack_tokens: AttackTokens = 10
    n_iterations: Iterations = Field(10, description="GCG 10 undefended and 128 defended; RandomToken 1,280.")
    n_candidates: Count = Field(128, description="GCG: replacements tried in each iteration.")
    top_k: TopK = Field(256, description="GCG: tokens kept at each position by gradient.")
    gradient: Flag = Field(True, description="GCG: false draws position and token uniformly (no-gradient control).")
    initial_text: FilledText = Field("@&", description="GCG: repeated to n_attack_tokens tokens.")
    candidate_rng: Literal["restart", "per_example"] = Field(
        "restart", description="GCG: restart the stream for every example (paper), or key it by example."
    )
    early_stop: Flag = Field(False, description="Stop an example at its first success; leaves `asr` null after it.")
    allowed: Allowed | None = Field(
        None,
        description="Tokens inserted; absent: for chat models printable_ascii, as published, for classifiers any.",
    )
    held: Held | None = Field(
        None,
        description="GCG: the text that counts, of the last iteration or of the lowest loss so far; absent: for chat "
        "models best, as published, for classifiers last.",
    )

    def for_victim(self, chat: bool) -> Self:
        """With the tokens allowed and the text held as published for this kind of victim where the study is silent."""
        allowed, held = published_search(self.kind, chat)
        return self.model_copy(update={"allowed": self.allowed or allowed, "held": self.held or held})


def published_search(kind: str, chat: bool) -> tuple[Allowed, Held]:
    """``allowed`` and ``held`` of an attack where nobody says otherwise.

    GCG on chat models keeps to printable ASCII and to its best suffix (arXiv 2307.15043 and its code); on classifiers
    it takes any token and its last text (arXiv 2407.18213). RandomToken draws from GCG's tokens, and the first text of
    an attack in embedding space is built of them. BEAST and the adaptive search draw from all tokens, as published.
    """
    ascii_only = chat and kind in ("gcg", "random_token", "embedding")
    return "printable_ascii" if ascii_only else "any", "best" if chat and kind == "gcg" else "last"


class Beast(AttackBase):
    """BEAST: beam search over the sampler's own continuations. An iteration adds a token. (arXiv 2402.15570)."""

    kind: Literal["beast"]
    n_iterations: AttackTokens = Field(40, description="Attack tokens; 25 in the scaling study.")
    beam: Count = Field(15, description="k1: prompts kept; 7 in the scaling study.")
    branching: Count = Field(15, description="k2: children of each; 7 in the scaling study.")
    top_p: PositiveFraction = 1.0
    sampler: ModelName | Literal["victim", "smallest"] = Field(
        "smallest",
        description="Language model that proposes tokens; smallest: the one with the fewest parameters of the scales "
        "that the study lists of the victim's family (the first one where a size is not known); chat: victim.",
    )
    read_back: Flag | None = Field(
        None,
        description="Score only texts that the victim reads as the tokens drawn; absent: true for chat models, "
        "false for classifiers, as in the scaling study.",
    )

    def for_victim(self, chat: bool) -> Self:
        """With ``read_back`` by the kind of victim where the study is silent."""
        return self.model_copy(update={"read_back": chat if self.read_back is None else self.read_back})


class AutoDan(AttackBase):
    """AutoDAN: a genetic search over fluent prefixes (arXiv 2310.04451), HarmBench's constants.

    The published pool of prefixes and the mutator's prompt are not this repository's: it has its own.
    """

    kind: Literal["autodan"]
    n_iterations: Iterations = 100
    population: Annotated[int, Whole(2, 100_000)] = 64
    elite_share: FractionBelowOne = 0.1
    crossover_probability: Fraction = 0.5
    crossover_points: Count = 5
    mutation_probability: Fraction = 0.01
    hierarchical: Flag = Field(True, description="Word-level steps between paragraph steps (HGA).")
    paragraph_every: Iterations = Field(5, description="HGA: every this many steps is a paragraph step.")
    n_words: Count = Field(30, description="HGA: words whose scores are kept.")
    roulette: Literal["softmax", "sum"] = Field("softmax", description="sum: prefers worse prompts, as published.")
    patience: Iterations | None = Field(10, description="Steps without improvement before an example is left.")
    mutator: ModelName | Literal["rules"] = Field(
        "rules", description="Model that rewrites prefixes, as published; rules: shuffles, drops or inserts sentences."
    )
    pool_file: Source | None = Field(
        None,
        description="Prefixes to start from, by a path or a path below data.root: a JSON list of texts, or a text file "
        "with blank lines between them; own paragraphs when absent.",
    )

    def texts(self, key: str) -> dict[str, Named]:
        """The pool."""
        return {"pool": Named(f"{key}.pool_file", self.pool_file, whole=True)} if self.pool_file else {}


class Pair(AttackBase):
    """PAIR: an attacker model rewrites the prompt from the judge's score (arXiv 2310.08419), HarmBench's constants.

    The published prompts of attacker and judge are not this repository's: it has its own.
    """

    kind: Literal["pair"]
    n_iterations: Iterations = Field(3, description="Rounds of each stream.")
    streams: Count = 20
    keep_last: Count = Field(3, description="Rounds of history that the attacker sees.")
    attacker: ModelName | Literal["grammar"] = "grammar"
    temperature: Annotated[float, Real(1e-6, 100)] = 1.0
    top_p: PositiveFraction = 0.7
    max_attacker_tokens: Tokens = 500
    max_reply_tokens: Tokens = 150
    retries: Annotated[int, Whole(0, 1_000)] = Field(
        20, description="Of a proposal that cannot be parsed; then the goal itself."
    )
    judge: ModelName | Literal["rules"] | None = Field(
        None,
        description="Model that scores answers; absent: the attacker's, as published, or rules where that is the "
        "grammar. rules: refusal phrases and the likelihood of the opening, which a black box does not tell.",
    )
    judge_prompt_file: RatingForms | None = Field(
        None, description="The words that a judging model is asked in as published; this repository's when absent."
    )
    cutoff: Annotated[int, Whole(1, 10)] = Field(10, description="Score at which an example is done.")

    @model_validator(mode="after")
    def _a_judge_is_known(self) -> Self:
        if self.judge is None:
            judge = "rules" if self.attacker == "grammar" else self.attacker
            object.__setattr__(self, "judge", judge)  # not as if the study had set it: an override changes the attacker
            self.model_fields_set.discard("judge")
        if self.judge_prompt_file is not None and self.judge == "rules":
            raise ValueError("judge_prompt_file: found with judge: rules, which asks nobody; name a model as judge")
        return self

    def texts(self, key: str) -> dict[str, Named]:
        """What the judge is told and asked."""
        found = named(f"{key}.judge_prompt_file", self.judge_prompt_file)
        return {f"judge_{text.key.rpartition('.')[2]}": text for text in found}


class Direct(AttackBase):
    """The behavior as it is."""

    kind: Literal["direct"]
    n_iterations: Annotated[int, Whole(1, 1)] = 1


class Prefill(AttackBase):
    """The reply is begun with the first tokens of the opening aimed at."""

    kind: Literal["prefill"]
    n_iterations: Annotated[int, Whole(1, 1)] = 1
    n_prefill_tokens: AttackTokens = Field(10, description="At most; the opening's last token is left to be scored.")


class InContext(AttackBase):
    """Other behaviors answered with their openings stand before the question."""

    kind: Literal["in_context"]
    n_iterations: Iterations = Field(1, description="Draws of the turns shown; the best is kept.")
    shots: Annotated[int, Whole(1, 1_000)] = Field(
        4, description="Earlier turns; fewer where they do not fit the model."
    )


class Adaptive(AttackBase):
    """A template and random search over a suffix on the log-probability of the opening (arXiv 2404.02151)."""

    kind: Literal["adaptive"]
    n_iterations: Iterations = Field(1_000, description="Texts tried, the first suffix included.")
    n_attack_tokens: AttackTokens = 25
    n_replaced: AttackTokens = Field(4, description="Tokens replaced in one try, halved as the search goes on.")
    template: Flag = Field(True, description="false: the suffix alone, where the task's position puts it.")


class Templates(AttackBase):
    """Own human-written frames around the behavior; an iteration is a frame."""

    kind: Literal["templates"]
    n_iterations: Annotated[int, Whole(1, 7)] = Field(7, description="Frames tried, in order; there are 7.")


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


class EmbeddingAttack(AttackBase):
    """The attack in embedding space at test: an upper bound, and a check for masked gradients."""

    kind: Literal["embedding"]
    n_iterations: Iterations = 100
    perturbation: Perturbation = Perturbation(step_size=0.01, eps=None)
    ball: Literal["own", "training"] = Field(
        "own",
        description="training: eps, eps_mode and norm are those that the attacked model was trained against (as "
        "published); only for defenses that train against attacks on embeddings.",
    )

    @classmethod
    def nested_defaults(cls, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """See :class:`Settings`; where the ball is that of a model's training, it is none by default no more."""
        found = super().nested_defaults(values)
        left_out = BALL if values.get("ball") == "training" else ()
        kept = {name: value for name, value in found["perturbation"].items() if name not in left_out}
        return {**found, "perturbation": kept}

    def of_training(self, training: Perturbation) -> EmbeddingAttack:
        """The attack with the ball of a training.

        Raises:
            pydantic.ValidationError: its start or its steps need a ball, and the training has none.
        """
        ball = {name: getattr(training, name) for name in BALL}
        perturbation = Perturbation.model_validate({**self.perturbation.model_dump(), **ball})
        return self.model_copy(update={"perturbation": perturbation})
