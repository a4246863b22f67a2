"""Tasks of one text and a label: IMDB, Spam (section 3) and any described table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.example import BuiltTask, Example
from hardscale.tasks.formats.json_table import kind_of
from hardscale.tasks.locate import description
from hardscale.tasks.source import Row, read_source
from hardscale.tasks.splits import SplitRecord, cut_to_words, draw_splits, text_of
from hardscale.tasks.templates import TEMPLATES, Template, described_template
from hardscale.untrusted.naming import brief


def build(name: str, kind: str, settings: TaskSettings, seed: int, root: Path | None) -> BuiltTask:
    """IMDB or Spam, from the columns ``text`` and ``label`` (0 or 1)."""

    def label_of(value: Any) -> int | None:
        return value if value in (0, 1) else {"0": 0, "1": 1}.get(value) if isinstance(value, str) else None

    return build_from_table(
        name,
        settings,
        seed,
        root,
        template=TEMPLATES[kind],
        text="text",
        label="label",
        label_of=label_of,
        allowed="0, 1",
    )


def build_from_table(
    name: str,
    settings: TaskSettings,
    seed: int,
    root: Path | None,
    *,
    template: Template,
    text: str,
    label: str,
    label_of: Callable[[Any], int | None],
    allowed: str,
) -> BuiltTask:
    """Both splits of a table with a text and a label column. Rows without text are left out.

    Args:
        name: of the task, for seeds and messages.
        settings: of the task.
        seed: of the study.
        root: data root, if there is one.
        template: prompt around the text.
        text: column with the text.
        label: column with the label.
        label_of: class index of a label value; None refuses the value.
        allowed: what is allowed, for the message.

    Raises:
        DataError: the table cannot be read, a label is unknown, a split is empty.
    """
    source = read_source(name, settings, root, (text, label))

    def record(row: Row) -> SplitRecord | None:
        original = text_of(row, text)
        class_index = label_of(row.values[label])
        if class_index is None:
            raise DataError(
                f"{row.where}: column {label!r} holds {_shown(row.values[label])}, allowed: {allowed}; "
                "fix the row, or the task's labels in the study"
            )
        if not original.strip():
            return None
        return SplitRecord(row.index, (original,), (cut_to_words(original, settings.max_words),), int(class_index))

    records = {
        split: [found for row in rows if (found := record(row)) is not None] for split, rows in source.splits.items()
    }
    splits = draw_splits(name, source, records, settings, derive_seed(seed, "task", name, "shuffle"))

    def example(drawn: SplitRecord) -> Example:
        chunks = template.chunks(drawn.texts, settings.instruction, settings.answer_prompt)
        return Example(drawn.example_id, chunks, template.modifiable, drawn.label)

    return BuiltTask(
        train=[example(drawn) for drawn in splits.train],
        validation=[example(drawn) for drawn in splits.validation],
        labels=template.labels,
        chunk_kinds=template.chunk_kinds,
        pieces=template.pieces(settings.instruction, settings.answer_prompt),
        facts={**source.facts, **splits.facts},
    )


def _shown(value: Any) -> str:
    """A label for a message; of what is too long to be one, only its length."""
    if isinstance(value, str):
        return brief(value)
    return repr(value) if value is None or isinstance(value, bool) else kind_of(value).split()[-1]


def label_text(value: Any) -> str:
    """A label value as a study writes it: whole numbers without a point, truth values in lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def build_described(name: str, settings: TaskSettings, seed: int, root: Path | None) -> BuiltTask:
    """Both splits of a described task.

    Raises:
        DataError: the description is incomplete, the table cannot be read, a label is not in ``labels``.
    """
    text_column, label_column, labels = description(name, settings)
    classes = {value: i for i, value in enumerate(labels)}
    return build_from_table(
        name,
        settings,
        seed,
        root,
        template=described_template(labels),
        text=text_column,
        label=label_column,
        label_of=lambda value: None if value is None else classes.get(label_text(value)),
        allowed=", ".join(repr(value) for value in labels),
    )
