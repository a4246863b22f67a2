"""The blocks of a study for its data and its classification tasks (arXiv 2407.18213, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from hardscale.settings.blocks import Settings
from hardscale.settings.bounds import Examples, Line, Real, Text, Tokens, Whole, size
from hardscale.tasks.templates import constructed_tasks

LetterCount = Annotated[int, Whole(1, 100)]


class DataSettings(Settings):
    """Where real data comes from: ``root`` is a folder in hub layout; without it the Hugging Face hub is used."""

    root: Line | None = Field(None, description="Folder in hub layout; the environment's HARDSCALE_DATA when absent.")


class WordSource(Settings):
    """Words of the constructed tasks (section 3, PasswordMatch and WordLength)."""

    source: Literal["english_words", "letters"] = Field(
        "english_words", description="english_words: the package's web2 list; letters: random lower-case strings."
    )
    min_length: LetterCount = 1
    max_length: LetterCount = 22
    n_words: Annotated[int, Whole(1, 1_000_000)] | None = Field(
        25_487, description="Words kept, drawn once by seed; null keeps all."
    )

    @model_validator(mode="after")
    def _lengths(self) -> WordSource:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self


#: Tasks that are made here, without any file: each a module of :mod:`hardscale.tasks` that says so.
CONSTRUCTED = tuple(constructed_tasks())
TEXT_TASKS = ("imdb", "spam")
PREFERENCE_TASKS = ("helpful", "harmless")
if TYPE_CHECKING:
    TaskKind = str
else:
    TaskKind = Literal[(*CONSTRUCTED, *TEXT_TASKS, *PREFERENCE_TASKS, "described")]


class TaskSettings(Settings):
    """A classification task: one of the six of the paper, or any table described here.

    A described task needs ``source``, ``text``, ``label`` and ``labels``; the six need nothing.
    """

    kind: TaskKind | None = Field(
        None, description="Defaults to the task's own name; `described` when `source` is given."
    )
    instruction: Text | None = Field(None, description="Text before the content; the built-in one when absent.")
    answer_prompt: Text = Field("\n\nAnswer:", description="Text after the content.")
    n_train: Examples = Field(20_000, description="Training examples kept (first ones of the shuffled split).")
    n_validation: Examples = Field(2_000, description="Validation examples kept.")
    max_words: Tokens | None = Field(None, description="Content is cut to this many words before tokenizing.")
    max_tokens: Tokens | None = Field(
        1_000, description="Examples whose prompt is longer, in tokens of the family's tokenizer, are left out."
    )
    words: WordSource = WordSource()
    source: Line | None = Field(
        None, description="file.csv | file.jsonl | file.parquet | folder | hub:org/name[@revision]"
    )
    text: Line | None = Field(None, description="Column with the text (described tasks).")
    label: Line | None = Field(None, description="Column with the label (described tasks).")
    labels: Annotated[list[Line], size(1_000)] | None = Field(
        None, description="All label values, in class order (described tasks)."
    )
    position: Literal["suffix", "prefix"] = Field(
        "suffix", description="Side of the text on which attacks write unless they name their own position."
    )
    validation_fraction: Annotated[float, Real(1e-6, 1, below=True)] = Field(
        0.2,
        description="Share of the different texts that is split off where a source has no validation split: exact, "
        "by content, and of each class alike.",
    )

    @model_validator(mode="after")
    def _described_is_complete(self) -> TaskSettings:
        described = {"source": self.source, "text": self.text, "label": self.label, "labels": self.labels}
        if self.kind == "described" or self.text or self.label or self.labels:
            missing = [key for key, value in described.items() if not value]
            if missing:
                raise ValueError(f"a described task also needs: {', '.join(missing)}")
            labels = self.labels or []
            if len(labels) < 2 or len(set(labels)) != len(labels):
                raise ValueError(f"labels must be at least two distinct values, found {labels}")
        return self
