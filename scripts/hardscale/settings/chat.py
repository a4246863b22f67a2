"""The typed blocks of a study for tasks of chat models, for the other models that it names, and for judges of replies.

No torch and no transformers here. Sections are those of "Efficient Adversarial Training in LLMs with Continuous
Attacks" (arXiv 2405.15589).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from hardscale.settings.blocks import Name, Settings


class BehaviorSource(Settings):
    """Harmful behaviours with the openings that attacks aim at, in one of the published file formats."""

    behaviors: str = Field(
        description="Table in the layout of HarmBench (Behavior, BehaviorID; ContextString, FunctionalCategory where "
        "known), AdvBench, JailbreakBench, StrongREJECT or XSTest, or with columns named below: a path, a path below "
        "data.root, or hub:org/name[@revision]/file.csv."
    )
    request_column: str | None = Field(
        None, description="Column with the request; by the layout when absent, and refused where several could be it."
    )
    id_column: str | None = Field(None, description="... with its id; rows are numbered where the layout has none.")
    context_column: str | None = Field(None, description="... with the text that the request is about.")
    category_column: str | None = Field(None, description="... with its category.")
    target_column: str | None = Field(
        None, description="... with the opening of a complying answer, for behaviors that `targets` has none for."
    )
    targets: str | None = Field(
        None, description="json: BehaviorID -> opening, or a list of openings; `target` for all when absent."
    )
    safe_answers: str | None = Field(None, description="csv with Behavior and Safe_Response; `safe_answer` if absent.")
    ids: list[str] | None = Field(None, description="BehaviorIDs to use, in this order; all when absent.")
    categories: list[str] | None = Field(None, description="FunctionalCategory values to use; all when absent.")
    n: PositiveInt | None = Field(None, description="Only the first n of what is left.")
    n_targets: PositiveInt | None = Field(None, description="Only the first n openings of each behaviour.")

    @property
    def columns(self) -> dict[str, str | None]:
        """Role -> column, as named here."""
        return {role: getattr(self, f"{role}_column") for role in ("request", "id", "context", "category", "target")}


class UtilitySource(Settings):
    """Ordinary chat: what the model must stay good at (section on data)."""

    source: str = Field(
        "hub:HuggingFaceH4/ultrachat_200k",
        description="Table with `messages` (role, content) or `prompt` and `response`, or Alpaca's columns.",
    )
    columns: Literal["messages", "prompt", "instruction"] | None = Field(
        None, description="Which of these formats to read, by its first column, where a table has several."
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


class ModelName(Settings):
    """Another model of the study."""

    family: Name
    scale: Name


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
