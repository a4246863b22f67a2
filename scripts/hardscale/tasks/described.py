"""A task described in a study: any table with a text column and a label column, any number of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardscale.settings.tasks import TaskSettings
from hardscale.tasks import text
from hardscale.tasks.example import BuiltTask
from hardscale.tasks.locate import description
from hardscale.tasks.templates import described_template


def label_text(value: Any) -> str:
    """A label value as a study writes it: whole numbers without a point, truth values in lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def build(name: str, settings: TaskSettings, seed: int, root: Path | None) -> BuiltTask:
    """Both splits of a described task.

    Raises:
        DataError: the description is incomplete, the table can not be read, a label is not in ``labels``.
    """
    text_column, label_column, labels = description(name, settings)
    classes = {value: i for i, value in enumerate(labels)}
    return text.build_from_table(
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
