"""Making and publishing a task."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import EXAMPLES
from hardscale.artifacts.tables import write_table
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.tasks import CONSTRUCTED, PREFERENCE_TASKS, TEXT_TASKS, TaskSettings
from hardscale.tasks import preference, text
from hardscale.tasks.build_chat import prepare_chat_task
from hardscale.tasks.example import BuiltTask, Example
from hardscale.tasks.locate import task_kind


def build_task(name: str, settings: TaskSettings, seed: int, root: Path | None) -> BuiltTask:
    """The task that settings ask for.

    Raises:
        DataError: its data cannot be had or do not fit the settings.
    """
    kind = task_kind(name, settings)
    if kind in CONSTRUCTED:
        return importlib.import_module(f"hardscale.tasks.{kind}").build(name, settings, seed)
    if kind in TEXT_TASKS:
        return text.build(name, kind, settings, seed, root)
    if kind in PREFERENCE_TASKS:
        return preference.build(name, kind, settings, seed, root)
    return text.build_described(name, settings, seed, root)


def prepare_task(name: str, settings: TaskSettings | ChatTaskSettings, seed: int, root: Path | None, out: Path) -> None:
    """Publish a task: ``train.parquet`` and ``validation.parquet``, and what is constant in the manifest's facts.

    A task for chat models holds other tables; see :mod:`hardscale.tasks.chat`.

    Args:
        name: of the task in its study.
        settings: of the task.
        seed: of the study.
        root: folder with real data in hub layout; None for the hub.
        out: artifact folder.

    Raises:
        DataError: its data cannot be had or do not fit the settings.
    """
    if isinstance(settings, ChatTaskSettings):
        prepare_chat_task(name, settings, seed, root, out)
        return
    task = build_task(name, settings, seed, root)
    spec = {"name": name, "settings": settings.model_dump(mode="json"), "seed": seed}
    with publishing(out, kind="task", spec=spec) as draft:
        for split, examples in (("train", task.train), ("validation", task.validation)):
            write_table(draft.path / f"{split}.parquet", [_row(example) for example in examples], EXAMPLES)
        draft.note(
            **task.facts,
            labels=list(task.labels),
            chunk_kinds=list(task.chunk_kinds),
            pieces=list(task.pieces),
            position=settings.position,
            n_train=len(task.train),
            n_validation=len(task.validation),
            class_balance={
                "train": class_balance(task.train, len(task.labels)),
                "validation": class_balance(task.validation, len(task.labels)),
            },
        )


def class_balance(examples: list[Example], n_labels: int) -> list[float]:
    """Share of the examples in each class."""
    counts = Counter(example.label for example in examples)
    return [counts[label] / len(examples) for label in range(n_labels)]


def _row(example: Example) -> dict[str, Any]:
    return {
        "example_id": example.example_id,
        "chunks": list(example.chunks),
        "modifiable": example.modifiable,
        "label": example.label,
    }
