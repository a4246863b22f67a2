"""The typed blocks of what is measured of chat models besides robustness. No torch and no transformers here.

Sections are those of "Efficient Adversarial Training in LLMs with Continuous Attacks" (arXiv 2405.15589).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from hardscale.settings.blocks import NonNegativeInt, Settings
from hardscale.settings.chat import ModelName

TaskOfHarness = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
#: What the `utility` job does not measure: each has a job of its own.
OTHER_JOBS = frozenset({"lm_eval", "mt_bench"})


class LmEvalSettings(Settings):
    """Benchmarks by lm-evaluation-harness, always with the chat template; see docs/chat.md for its interpreter."""

    tasks: list[TaskOfHarness] = Field(
        default_factory=lambda: ["mmlu", "arc_easy", "arc_challenge"],
        min_length=1,
        description="Names of its tasks or groups; each is a row of the utility table.",
    )
    limit: PositiveInt | dict[str, PositiveInt] | None = Field(
        None, description="Only the first questions of each task (of each one in a group): a number, or one a task."
    )
    num_fewshot: NonNegativeInt | dict[str, NonNegativeInt] | None = Field(
        None, description="Answered questions shown before each: a number, or one a task; the task's own when absent."
    )
    batch_size: PositiveInt = 8
    include_path: str | None = Field(
        None, description="Folder with further tasks as YAML files: a path, or a path below data.root."
    )
    python: str | None = Field(
        None, description="Interpreter that has lm_eval; the environment's HARDSCALE_LM_EVAL_PYTHON when absent."
    )

    @model_validator(mode="after")
    def _names_are_of_tasks(self) -> LmEvalSettings:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks: a name is there twice; give each once")
        for key in ("limit", "num_fewshot"):
            value = getattr(self, key)
            unknown = [name for name in value if name not in self.tasks] if isinstance(value, dict) else []
            if unknown:
                raise ValueError(f"{key}: {unknown[0]!r} is not one of tasks ({', '.join(self.tasks)})")
        return self

    def limit_of(self, task: str) -> int | None:
        """Questions of a task at most."""
        return self.limit.get(task) if isinstance(self.limit, dict) else self.limit

    def num_fewshot_of(self, task: str) -> int | None:
        """Answered questions before each of a task; None for the task's own number."""
        return self.num_fewshot.get(task) if isinstance(self.num_fewshot, dict) else self.num_fewshot


class MtBenchSettings(Settings):
    """MT-Bench (arXiv 2306.05685): conversations of two turns, each reply rated from 1 to 10 by another model."""

    questions: str = Field(
        description="question.jsonl with question_id, category, turns and, if wanted, reference: a path, a path below "
        "data.root, or hub:org/name[@revision]/question.jsonl."
    )
    judge: ModelName | FunctionName = Field(
        description="Who rates: a model of the study as {family, scale}, or module:function of yours (docs/chat.md)."
    )
    n_questions: PositiveInt | None = Field(None, description="At equal distances in the file; all when absent.")
    max_new_tokens: PositiveInt = Field(1_024, description="Of each reply.")
    max_reply_tokens: PositiveInt = Field(2_048, description="Of a reply that the judging model reads.")
    sampling: Literal["greedy", "benchmark"] = Field(
        "greedy", description="benchmark: at the temperature that MT-Bench gives to each category."
    )


class UtilitySettings(Settings):
    """What is measured besides robustness."""

    harmless: str | None = Field(None, description="Table with prompt and type (XSTest's columns); own list if absent.")
    n_harmless: PositiveInt = 40
    mmlu: str | None = Field(None, description="Table with question, choices, answer: asked with the chat template.")
    n_mmlu: PositiveInt = 100
    polite: str | None = Field(
        None, description="Table of politely phrased behaviors, in a layout as test.behaviors of a chat task."
    )
    polite_column: str | None = Field(None, description="Its column with the request, where the layout is no such one.")
    n_polite: PositiveInt = 40
    max_new_tokens: PositiveInt = 64
    lm_eval: LmEvalSettings | None = Field(None, description="Benchmarks by lm-evaluation-harness; null for none.")
    mt_bench: MtBenchSettings | None = Field(None, description="MT-Bench; null for none.")
