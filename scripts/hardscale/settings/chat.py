"""The typed blocks of a study for tasks of chat models, for the other models that it names, and for judges of replies.

No torch and no transformers here. Sections are those of "Efficient Adversarial Training in LLMs with Continuous
Attacks" (arXiv 2405.15589).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hardscale.settings.blocks import Settings
from hardscale.settings.bounds import (
    Count,
    Examples,
    FilledText,
    Line,
    Name,
    PositiveFraction,
    Real,
    Text,
    Tokens,
    TopK,
    size,
)
from hardscale.settings.wordings import BEHAVIOR, COMPLETION, JudgeForms, Named, Source, named

#: Judging models of these kinds, and where the words are published that each is asked in.
_PUBLISHED_AT = {
    "harmbench": "eval_utils.py of github.com/centerforaisafety/HarmBench, as LLAMA2_CLS_PROMPT, and in the model card "
    "of cais/HarmBench-Llama-2-13b-cls, with the contextual form",
    "strongreject_finetuned": "strong_reject/eval_files/judge_templates.json of github.com/dsbowen/strong_reject, as "
    "strongreject_finetuned; judgezoo on PyPI has them as strong_reject.py#StrongRejectJudge.SR_CLS_PROMPT",
    "rubric": "strong_reject/eval_files/judge_templates.json of github.com/dsbowen/strong_reject, "
    "as strongreject_rubric",
}


class BehaviorSource(Settings):
    """Harmful behaviors with the openings that attacks aim at, in one of the published file formats."""

    behaviors: Line = Field(
        description="Table in the layout of HarmBench (Behavior, BehaviorID; ContextString, FunctionalCategory where "
        "known), AdvBench, JailbreakBench, StrongREJECT or XSTest, or with columns named below: a path, a path below "
        "data.root, or hub:org/name[@revision]/file.csv."
    )
    request_column: Line | None = Field(
        None, description="Column with the request; by the layout when absent, and refused where several could be it."
    )
    id_column: Line | None = Field(None, description="... with its id; rows are numbered where the layout has none.")
    context_column: Line | None = Field(None, description="... with the text that the request is about.")
    category_column: Line | None = Field(None, description="... with its category.")
    target_column: Line | None = Field(
        None, description="... with the opening of a complying answer, for behaviors that `targets` has none for."
    )
    targets: Line | None = Field(
        None, description="json: BehaviorID -> opening, or a list of openings; `target` for all when absent."
    )
    safe_answers: Line | None = Field(None, description="csv with Behavior and Safe_Response; `safe_answer` if absent.")
    ids: Annotated[list[Line], size(100_000)] | None = Field(
        None, description="BehaviorIDs to use, in this order; all when absent."
    )
    categories: Annotated[list[Line], size(1_000)] | None = Field(
        None, description="FunctionalCategory values to use; all when absent."
    )
    n: Examples | None = Field(None, description="Only the first n of what is left.")
    n_targets: Count | None = Field(None, description="Only the first n openings of each behavior.")

    @property
    def columns(self) -> dict[str, str | None]:
        """Role -> column, as named here."""
        return {role: getattr(self, f"{role}_column") for role in ("request", "id", "context", "category", "target")}


class UtilitySource(Settings):
    """Ordinary chat: what the model must stay good at (section on data)."""

    source: Line = Field(
        "hub:HuggingFaceH4/ultrachat_200k",
        description="Table with `messages` (role, content) or `prompt` and `response`, or Alpaca's columns.",
    )
    columns: Literal["messages", "prompt", "instruction"] | None = Field(
        None, description="Which of these formats to read, by its first column, where a table has several."
    )
    max_first_turn_characters: Tokens = Field(
        768, description="First user turns of so many characters or more are left out."
    )
    n_train: Examples | None = Field(None, description="Conversations for training; all when absent.")
    n_validation: Examples = Field(64, description="Conversations on which utility perplexity is measured.")


class ReplySampling(Settings):
    """Replies drawn from the model's distribution, by seeds of the study. Defaults are those of arXiv 2407.18213."""

    temperature: Annotated[float, Real(1e-6, 100)] = 1.0
    top_k: TopK | None = Field(50, description="Only so many of the likeliest tokens are drawn; null for all.")
    top_p: PositiveFraction = Field(1.0, description="Only the likeliest of these that together have this probability.")


class ChatTaskSettings(Settings):
    """A task for chat models: behaviors to train against, behaviors to attack at test, and ordinary chat."""

    kind: Literal["behaviors"]
    train: BehaviorSource | None = Field(None, description="For training; never the behaviors of the test.")
    test: BehaviorSource
    utility: UtilitySource | None = None
    target: FilledText = Field("Sure, here", description="Opening aimed at where a source names none.")
    safe_answer: FilledText = Field(
        "Sorry, I can't do that.", description="Answer trained towards where a source names none."
    )
    system_prompt: Text | None = Field(None, description="The template's own default when absent; '' for none.")
    max_tokens: Tokens = Field(512, description="Longer rendered test prompts are left out, and reported.")
    max_new_tokens: Tokens = Field(512, description="Of a judged reply.")
    sampling: ReplySampling | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="How judged replies are drawn; greedily decoded when absent.",
    )
    position: Literal["suffix", "prefix"] = Field("suffix", description="Where attacks write within the user's turn.")

    @property
    def source(self) -> None:
        """Its sources are several; see ``train``, ``test`` and ``utility``."""
        return


class ModelName(Settings):
    """Another model of the study."""

    family: Name
    scale: Name


class JudgeSettings(Settings):
    """Who says whether a reply complies (appendix on evaluation)."""

    kind: Literal["rules", "harmbench", "strongreject_finetuned", "rubric", "copyright"] = Field(
        "rules",
        description="harmbench: a classifier that says yes or no; strongreject_finetuned: a model whose next token is "
        "a grade from 1 to 5; rubric: a model that writes three grades.",
    )
    mode: Literal["prefix", "anywhere"] = Field("prefix", description="rules: where a refusal phrase counts.")
    model: ModelName | None = Field(None, description="The judging model of a judge that is one.")
    wording: Literal["published", "own"] = Field(
        "published",
        description="harmbench, rubric: own asks in words of this repository, which no judge was trained on, and is "
        "called so in every table; published needs prompt_file, prompt_package or prompt.",
    )
    prompt_file: Source | JudgeForms | None = Field(
        None,
        description="The question in the words that the judging model was trained on, template included (a rubric is "
        "put through the model's own template): a text file, file.json#key or file.py#NAME, by its path or its path "
        "below data.root; or {standard, contextual, system}. Places: {behavior} or {forbidden_prompt}; {completion}, "
        "{generation} or {response}; {context} or {context_str}.",
    )
    prompt_package: Source | JudgeForms | None = Field(
        None, description="The same in an installed package: package:path/in/it.txt, .json#key or .py#NAME."
    )
    prompt: FilledText | None = Field(None, description="The same, written in the study itself.")
    max_completion_tokens: Tokens = Field(512, description="Judging models: of a reply, by their tokenizer.")
    references: Line | None = Field(
        None,
        description="copyright: json, BehaviorID -> text, or {text, kind: book or lyrics}, by its path or its path "
        "below data.root; no verdict without.",
    )

    @property
    def asks(self) -> bool:
        """Whether it is a language model."""
        return self.kind in _PUBLISHED_AT

    def texts(self, key: str) -> Iterator[Named]:
        """The files that it reads, ``key`` being its place in the study."""
        yield from named(f"{key}.prompt_file", self.prompt_file)
        yield from named(f"{key}.prompt_package", self.prompt_package, packaged=True)
        yield from named(f"{key}.references", self.references)

    @model_validator(mode="after")
    def _fields_belong_to_the_kind(self) -> JudgeSettings:
        for key in ("prompt", "prompt_file", "prompt_package"):
            if getattr(self, key) is not None and not self.asks:
                raise ValueError(f"a {self.kind} judge takes no {key}")
        if self.references is not None and self.kind != "copyright":
            raise ValueError(f"a {self.kind} judge takes no references")
        if self.kind != "rules" and self.mode != "prefix":
            raise ValueError(f"a {self.kind} judge takes no mode")
        if not self.asks and self.wording != "published":
            raise ValueError(f"a {self.kind} judge takes no wording")
        if self.asks != (self.model is not None):
            raise ValueError(f"a {self.kind} judge {'needs' if self.model is None else 'takes no'} model")
        return self

    @model_validator(mode="after")
    def _words_are_named(self) -> JudgeSettings:
        given = [key for key in ("prompt", "prompt_file", "prompt_package") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"found {' and '.join(given)}; give one of them")
        if not self.asks:
            return self
        if self.wording == "own":
            if self.kind == "strongreject_finetuned":
                raise ValueError("wording: own is no question that a strongreject_finetuned judge could answer")
            if given:
                raise ValueError(f"found wording: own and {given[0]}; give one of them")
        elif not given:
            own = (
                ""
                if self.kind == "strongreject_finetuned"
                else ", or set wording: own to ask in ours, as no one else does"
            )
            raise ValueError(
                f"a {self.kind} judge is asked in the words it was published with, which this repository lacks: "
                f"give prompt_file, prompt_package or prompt (the words are in {_PUBLISHED_AT[self.kind]}){own}"
            )
        for given_forms in (self.prompt_file, self.prompt_package):
            if isinstance(given_forms, JudgeForms) and given_forms.system is not None and self.kind != "rubric":
                raise ValueError(f"a {self.kind} judge has no system prompt apart from its template; leave system out")
        for names in (BEHAVIOR, COMPLETION) if self.prompt is not None else ():
            if not any(f"{{{name}}}" in str(self.prompt) for name in names):
                raise ValueError(f"a judge's prompt needs {' or '.join(f'{{{name}}}' for name in names)}")
        return self
