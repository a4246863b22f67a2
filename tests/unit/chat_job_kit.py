"""A chat victim with a planted weakness and a task of harmless requests, as artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planted import TARGET, TRIGGER, Planted, obeys_trigger

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import BEHAVIORS, CHATS
from hardscale.artifacts.tables import write_table
from hardscale.models.load import save_model
from hardscale.tasks.chat import Behavior, Chat, behavior_row, chat_row

#: One of them has the trigger in it, so the victim obeys without an attack.
WORDS = ["apple", "pear backwards", f"plum {TRIGGER}", "fig", "lemon twice"]
CATEGORIES = ["standard", "contextual", "standard", "copyright", None]


def behaviors(start: int = 10, words: list[str] = WORDS, **changes: Any) -> list[Behavior]:
    return [
        Behavior(
            **{
                "row_id": start + i,
                "behavior_id": f"word_{start + i}",
                "behavior": f"Write the word {word}.",
                "context": "A list of fruit." if i == 1 else None,
                "category": CATEGORIES[i % 5],
                "targets": (TARGET, "Sure, a word"),
                "safe_answer": "No.",
                **changes,
            }
        )
        for i, word in enumerate(words)
    ]


CHATS_SEEN = [
    Chat(0, (("user", "Name a fruit."), ("assistant", "An apple is a fruit."))),
    Chat(1, (("user", "Hello."), ("assistant", "Hello!"), ("user", "One more?"), ("assistant", "A pear is one too."))),
    Chat(2, (("user", "A fruit " * 300), ("assistant", "An apple."))),
]


def publish_victim(folder: Path, planted: Planted | None = None) -> Path:
    planted = planted or obeys_trigger()
    with publishing(folder, "model", {}) as draft:
        save_model(planted.model, planted.tokenizer, draft.path / "model")
    return folder


def publish_task(folder: Path, test: list[Behavior] | None = None, **facts: Any) -> Path:
    rows = [behavior_row(one, "test") for one in (behaviors() if test is None else test)]
    rows += [behavior_row(one, "train") for one in behaviors(100, ["melon", "cherry", "grape"])]
    with publishing(folder, "task", {}) as draft:
        write_table(draft.path / "behaviors.parquet", rows, BEHAVIORS)
        write_table(draft.path / "utility.parquet", [chat_row(one, "validation") for one in CHATS_SEEN], CHATS)
        draft.note(
            **{
                "kind": "behaviors",
                "labels": [],
                "chunk_kinds": [],
                "pieces": [],
                "position": "suffix",
                "max_tokens": 200,
                "max_new_tokens": 12,
                "system_prompt": None,
                "source": "test",
                **facts,
            }
        )
    return folder
