"""A task for chat models: behaviors to train against and to attack, and ordinary conversations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.schemas import BEHAVIORS, CHATS
from hardscale.artifacts.tables import read_table
from hardscale.errors import DataError, HardscaleError

#: The tables of the artifact.
BEHAVIORS_FILE = "behaviors.parquet"
CHATS_FILE = "utility.parquet"
KIND = "behaviors"


@dataclass(frozen=True)
class Behavior:
    """Something that a model should refuse.

    Attributes:
        row_id: row of its file, from 0; unique within a split.
        behavior_id: as its file names it.
        behavior: what is asked for.
        context: text that the request is about, if any.
        category: if its file has any.
        targets: openings of a complying answer, which attacks aim at; at least one.
        safe_answer: what training answers instead.
    """

    row_id: int
    behavior_id: str
    behavior: str
    context: str | None
    category: str | None
    targets: tuple[str, ...]
    safe_answer: str

    @property
    def request(self) -> str:
        """The user's words: the context above a rule and the behavior, or the behavior alone."""
        return f"{self.context}\n\n---\n\n{self.behavior}" if self.context else self.behavior


@dataclass(frozen=True)
class Chat:
    """An ordinary conversation.

    Attributes:
        row_id: row of its split in the source, from 0.
        messages: (role, content) pairs: a system turn or none, then user and assistant in turn.
    """

    row_id: int
    messages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ChatTask:
    """A published task for chat models; a part that the study does not ask for is empty.

    Attributes:
        train: behaviors to train against, none of them among ``test``.
        test: behaviors to attack.
        utility_train: conversations to train on.
        utility_validation: conversations to measure perplexity on.
        facts: of the manifest: ``position``, ``max_tokens``, ``max_new_tokens``, ``sampling`` (of drawn replies),
            ``system_prompt`` among others.
    """

    train: list[Behavior]
    test: list[Behavior]
    utility_train: list[Chat]
    utility_validation: list[Chat]
    facts: dict[str, Any]


def load_chat_task(folder: Path) -> ChatTask:
    """A published task for chat models.

    Raises:
        ArtifactError: the folder is not a finished task.
        DataError: it is one for classifiers, or a table is broken.
    """
    folder = Path(folder)
    facts = open_artifact(folder, "task")["facts"]
    if facts.get("kind") != KIND:
        raise DataError(f"{folder}: found a task for classifiers, expected one with kind: {KIND}")
    behaviors = read_table(folder / BEHAVIORS_FILE, BEHAVIORS).to_pylist()
    chats = read_table(folder / CHATS_FILE, CHATS).to_pylist()
    return ChatTask(
        train=[_behavior(row) for row in behaviors if row["split"] == "train"],
        test=[_behavior(row) for row in behaviors if row["split"] == "test"],
        utility_train=[_chat(row) for row in chats if row["split"] == "train"],
        utility_validation=[_chat(row) for row in chats if row["split"] == "validation"],
        facts=facts,
    )


def private_texts(task: ChatTask) -> list[str]:
    """What no message may quote: requests, what they are about, and openings of complying answers."""
    return [text for b in [*task.test, *task.train] for text in (b.behavior, b.context, *b.targets) if text]


def texts_withheld(folder: Path) -> Iterator[str]:
    """The private texts of a published task, read when they are asked for; none where it cannot be read."""
    with contextlib.suppress(HardscaleError):
        yield from private_texts(load_chat_task(folder))


def behavior_row(behavior: Behavior, split: str) -> dict[str, Any]:
    """A row of BEHAVIORS."""
    return {**vars(behavior), "split": split, "targets": list(behavior.targets)}


def chat_row(chat: Chat, split: str) -> dict[str, Any]:
    """A row of CHATS."""
    return {
        "split": split,
        "row_id": chat.row_id,
        "roles": [role for role, _ in chat.messages],
        "contents": [content for _, content in chat.messages],
    }


def _behavior(row: dict[str, Any]) -> Behavior:
    return Behavior(**{key: value for key, value in row.items() if key != "split"} | {"targets": tuple(row["targets"])})


def _chat(row: dict[str, Any]) -> Chat:
    return Chat(row["row_id"], tuple(zip(row["roles"], row["contents"], strict=True)))
