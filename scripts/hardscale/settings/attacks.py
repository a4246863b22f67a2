"""The blocks of a study for its attacks: settings, and what others may ask of an attack by its kind.

Every class here that has ``kinds`` is an attack that studies may name, under these kinds
(:mod:`hardscale.settings.study_attacks`), and no other module knows them by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hardscale.settings.attack_base import VOCABULARY, Allowed, AttackBase, Facts, Held, Role
from hardscale.settings.bounds import (
    AttackTokens,
    Count,
    FilledText,
    Flag,
    Fraction,
    FractionBelowOne,
    Iterations,
    PositiveFraction,
    Real,
    Tokens,
    TopK,
    Whole,
)
from hardscale.settings.chat import ModelName
from hardscale.settings.perturbation import BALL, Perturbation
from hardscale.settings.wordings import Named, RatingForms, Source, named

#: The attack of a caller that names none.
DEFAULT_KIND = "gcg"


class AttackSettings(AttackBase):
    """A named attack. Defaults are the paper's (appendix on attacks): 10 tokens, 128 candidates, top-256."""

    kinds: ClassVar[Mapping[str, Facts]] = {
        "gcg": Facts(
            "GCG",
            "hardscale.attacks.gcg:run",
            place=0,
            ranks="top_k",
            replaces="n_candidates",
            resumes=True,
            adds="n_attack_tokens",
            ascii_on_chat=True,
            best_on_chat=True,
            by_victim=("allowed", "held"),
        ),
        "random_token": Facts(
            "RandomToken",
            "hardscale.attacks.random_token:run",
            place=5,
            blind=True,
            adds="n_attack_tokens",
            ascii_on_chat=True,
            by_victim=("allowed", "held"),
        ),
    }

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
        """With the tokens allowed and the text held as published for this kind of victim where the study is silent.

        GCG on chat models keeps to printable ASCII and to its best suffix (arXiv 2307.15043 and its code); on
        classifiers it takes any token and its last text (arXiv 2407.18213). RandomToken draws from GCG's tokens.
        """
        held = self.held or ("best" if chat and self.facts.best_on_chat else "last")
        return self.model_copy(update={"allowed": self.pool(chat), "held": held})

    def pool(self, chat: bool) -> Allowed:
        """Those of the study, where it says which."""
        return self.allowed or super().pool(chat)

    @property
    def ranking(self) -> str:
        """Empty without the gradient."""
        return super().ranking if self.gradient else ""

    def unread(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Tokens drawn blindly have no candidates to choose from."""
        if self.facts.blind:
            keys = ("n_candidates", "top_k", "gradient", "initial_text", "candidate_rng", "held")
            yield keys, f"kind: {self.kind} draws its tokens"
        yield from super().unread()


class Beast(AttackBase):
    """BEAST: beam search over the sampler's own continuations. An iteration adds a token. (arXiv 2402.15570)."""

    kinds: ClassVar[Mapping[str, Facts]] = {
        "beast": Facts(
            "BEAST",
            "hardscale.attacks.beast:run",
            place=1,
            adds="n_iterations",
            within={"branching": VOCABULARY},
            roles={"sampler": Role(continues=True)},
            by_victim=("read_back",),
        )
    }

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

    kinds: ClassVar[Mapping[str, Facts]] = {
        "autodan": Facts(
            "AutoDAN",
            "hardscale.attacks.autodan:run",
            place=2,
            chat_only=True,
            rewrites=True,
            roles={"mutator": Role()},
        )
    }

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

    def unread(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Settings of steps on words."""
        yield from super().unread()
        if not self.hierarchical:
            yield ("paragraph_every", "n_words"), "hierarchical is false"


class Pair(AttackBase):
    """PAIR: an attacker model rewrites the prompt from the judge's score (arXiv 2310.08419), HarmBench's constants.

    The published prompts of attacker and judge are not this repository's: it has its own.
    """

    kinds: ClassVar[Mapping[str, Facts]] = {
        "pair": Facts(
            "PAIR",
            "hardscale.attacks.pair:run",
            place=3,
            chat_only=True,
            rewrites=True,
            replies="max_reply_tokens",
            roles={"attacker": Role("max_attacker_tokens"), "judge": Role("max_reply_tokens")},
        )
    }

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


class EmbeddingAttack(AttackBase):
    """The attack in embedding space at test: an upper bound, and a check for masked gradients."""

    kinds: ClassVar[Mapping[str, Facts]] = {
        "embedding": Facts(
            "Embedding",
            "hardscale.attacks.embedding:run",
            place=4,
            space="embeddings",
            adds="perturbation.n_suffix_tokens",
            ascii_on_chat=True,
        )
    }

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

    def added_tokens(self) -> tuple[str, int]:
        """Those of a suffix; the other positions are tokens of the text."""
        key, n_tokens = super().added_tokens()
        return key, n_tokens if self.perturbation.positions == "suffix" else 0

    def unread(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """A position is that of a suffix."""
        if self.perturbation.positions != "suffix":
            yield ("position",), "perturbation.positions is no suffix"


class Direct(AttackBase):
    """The behavior as it is."""

    kinds: ClassVar[Mapping[str, Facts]] = {
        "direct": Facts("Direct request", "hardscale.attacks.direct:run", chat_only=True, rewrites=True)
    }

    kind: Literal["direct"]
    n_iterations: Annotated[int, Whole(1, 1)] = 1


class Prefill(AttackBase):
    """The reply is begun with the first tokens of the opening aimed at."""

    kinds: ClassVar[Mapping[str, Facts]] = {
        "prefill": Facts(
            "Prefilling",
            "hardscale.attacks.prefill:run",
            chat_only=True,
            rewrites=True,
            adds="n_prefill_tokens",
            begins_reply=True,
        )
    }

    kind: Literal["prefill"]
    n_iterations: Annotated[int, Whole(1, 1)] = 1
    n_prefill_tokens: AttackTokens = Field(10, description="At most; the opening's last token is left to be scored.")


class InContext(AttackBase):
    """Other behaviors answered with their openings stand before the question."""

    kinds: ClassVar[Mapping[str, Facts]] = {
        "in_context": Facts("In-context", "hardscale.attacks.in_context:run", chat_only=True, rewrites=True)
    }

    kind: Literal["in_context"]
    n_iterations: Iterations = Field(1, description="Draws of the turns shown; the best is kept.")
    shots: Annotated[int, Whole(1, 1_000)] = Field(
        4, description="Earlier turns; fewer where they do not fit the model."
    )


class Adaptive(AttackBase):
    """A template and random search over a suffix on the log-probability of the opening (arXiv 2404.02151)."""

    kinds: ClassVar[Mapping[str, Facts]] = {
        "adaptive": Facts(
            "Adaptive",
            "hardscale.attacks.adaptive:run",
            chat_only=True,
            adds="n_attack_tokens",
            within={"n_replaced": "n_attack_tokens"},
        )
    }

    kind: Literal["adaptive"]
    n_iterations: Iterations = Field(1_000, description="Texts tried, the first suffix included.")
    n_attack_tokens: AttackTokens = 25
    n_replaced: AttackTokens = Field(4, description="Tokens replaced in one try, halved as the search goes on.")
    template: Flag = Field(True, description="false: the suffix alone, where the task's position puts it.")

    def unread(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """The template has a place of its own."""
        if self.template:
            yield ("position",), "template is true"


class Templates(AttackBase):
    """Own human-written frames around the behavior; an iteration is a frame."""

    kinds: ClassVar[Mapping[str, Facts]] = {
        "templates": Facts("Templates", "hardscale.attacks.templates:run", chat_only=True, rewrites=True)
    }

    kind: Literal["templates"]
    n_iterations: Annotated[int, Whole(1, 7)] = Field(7, description="Frames tried, in order; there are 7.")
