"""The typed blocks of a study for attacks in text beyond GCG and random tokens. No torch and no transformers here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hardscale.settings.attacks import AttackBase
from hardscale.settings.bounds import (
    AttackTokens,
    Count,
    Flag,
    Fraction,
    FractionBelowOne,
    Iterations,
    PositiveFraction,
    Real,
    Tokens,
    Whole,
)
from hardscale.settings.chat import ModelName
from hardscale.settings.wordings import Named, RatingForms, Source, named


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
        20, description="Of a proposal that can not be parsed; then the goal itself."
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
