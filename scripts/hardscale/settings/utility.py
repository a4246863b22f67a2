"""The typed blocks of what is measured of chat models besides robustness. No torch and no transformers here.

Sections are those of "Efficient Adversarial Training in LLMs with Continuous Attacks" (arXiv 2405.15589).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hardscale.settings.blocks import Settings
from hardscale.settings.bounds import BatchSize, Examples, Line, Patterned, Tokens, Whole, size
from hardscale.settings.chat import ModelName

TaskOfHarness = Annotated[
    str,
    Patterned(
        r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", 100, "a name: at most 100 letters, digits, dots, hyphens and underscores"
    ),
]
#: Answered questions shown before one.
Shots = Annotated[int, Whole(0, 1_000)]
FunctionName = Annotated[
    str, Patterned(r"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", 1_000, "module:function in ASCII letters")
]
#: What the `utility` job does not measure: each has a job of its own.
OTHER_JOBS = frozenset({"lm_eval", "mt_bench"})


class LmEvalSettings(Settings):
    """Benchmarks by lm-evaluation-harness, always with the chat template; see docs/chat.md for its interpreter."""

    tasks: Annotated[list[TaskOfHarness], size(1_000)] = Field(
        default_factory=lambda: ["mmlu", "arc_easy", "arc_challenge"],
        description="Names of its tasks or groups; each is a row of the utility table.",
    )
    limit: Examples | Annotated[dict[TaskOfHarness, Examples], size(1_000)] | None = Field(
        None, description="Only the first questions of each task (of each one in a group): a number, or one a task."
    )
    num_fewshot: Shots | Annotated[dict[TaskOfHarness, Shots], size(1_000)] | None = Field(
        None, description="Answered questions shown before each: a number, or one a task; the task's own when absent."
    )
    batch_size: BatchSize = 8
    include_path: Line | None = Field(
        None, description="Folder with further tasks as YAML files: a path, or a path below data.root."
    )
    python: Line | None = Field(
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

    questions: Line = Field(
        description="question.jsonl with question_id, category, turns and, if wanted, reference: a path, a path below "
        "data.root, or hub:org/name[@revision]/question.jsonl."
    )
    judge: ModelName | FunctionName = Field(
        description="Who rates: a model of the study as {family, scale}, or module:function of yours (docs/chat.md)."
    )
    n_questions: Examples | None = Field(None, description="At equal distances in the file; all when absent.")
    max_new_tokens: Tokens = Field(1_024, description="Of each reply.")
    max_reply_tokens: Tokens = Field(2_048, description="Of a reply that the judging model reads.")
    sampling: Literal["greedy", "benchmark"] = Field(
        "greedy", description="benchmark: at the temperature that MT-Bench gives to each category."
    )


class UtilitySettings(Settings):
    """What is measured besides robustness."""

    harmless: Line | None = Field(
        None, description="Table with prompt and type (XSTest's columns); own list if absent."
    )
    n_harmless: Examples = 40
    mmlu: Line | None = Field(None, description="Table with question, choices, answer: asked with the chat template.")
    n_mmlu: Examples = 100
    polite: Line | None = Field(
        None, description="Table of politely phrased behaviors, in a layout as test.behaviors of a chat task."
    )
    polite_column: Line | None = Field(
        None, description="Its column with the request, where the layout is no such one."
    )
    n_polite: Examples = 40
    max_new_tokens: Tokens = 64
    lm_eval: LmEvalSettings | None = Field(None, description="Benchmarks by lm-evaluation-harness; null for none.")
    mt_bench: MtBenchSettings | None = Field(None, description="MT-Bench; null for none.")
