"""Making and publishing a task for chat models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import BEHAVIORS, CHATS
from hardscale.artifacts.tables import write_table
from hardscale.errors import DataError
from hardscale.runtime.console import say
from hardscale.settings.chat import ChatTaskSettings
from hardscale.tasks.behaviors import Chosen, Files, read_behaviors
from hardscale.tasks.chat import BEHAVIORS_FILE, CHATS_FILE, KIND, Behavior, behavior_row, chat_row
from hardscale.tasks.conversations import Conversations, read_conversations
from hardscale.tasks.fetch import fetched
from hardscale.tasks.locate import HubFile, HubTable, LocalFiles, locate_chat
from hardscale.untrusted.redaction import withholding


@dataclass(frozen=True)
class BuiltChatTask:
    """A chat task before it is published; parts that the study does not ask for are None."""

    train: Chosen | None
    test: Chosen
    utility: Conversations | None


def build_chat_task(name: str, settings: ChatTaskSettings, seed: int, root: Path | None) -> BuiltChatTask:
    """The task that settings ask for.

    Raises:
        DataError: its data cannot be had or do not fit the settings, training and test share a behavior, or no opening
            or safe answer of a file belongs to any behavior.
    """
    places = locate_chat(name, settings, root)

    def chosen(split: str) -> Chosen:
        key, block = f"tasks.{name}.{split}", getattr(settings, split)
        found = {field: _local(f"{key}.{field}", places.get(f"{key}.{field}"), root) for field in Files.__annotations__}
        assert found["behaviors"] is not None
        files = Files(found["behaviors"], found["targets"], found["safe_answers"])
        return read_behaviors(key, block, files, settings, measured=split == "test")

    train = chosen("train") if settings.train else None
    test = chosen("test")
    if train:
        _check_disjoint(name, train.behaviors, test.behaviors)
    for part in (train, test):
        if part and part.misfit:
            raise DataError(part.misfit)
    utility = None
    if settings.utility:
        place = places[f"tasks.{name}.utility.source"]
        assert isinstance(place, LocalFiles | HubTable)
        utility = read_conversations(name, settings.utility, place, root, seed)
    return BuiltChatTask(train, test, utility)


def prepare_chat_task(name: str, settings: ChatTaskSettings, seed: int, root: Path | None, out: Path) -> None:
    """Publish a task for chat models: behaviors, readable by their owner alone, and conversations.

    Args:
        name: of the task in its study.
        settings: of the task.
        seed: of the study.
        root: folder with real data in hub layout; None for the hub.
        out: artifact folder.

    Raises:
        DataError: its data cannot be had or do not fit the settings.
    """
    with withholding((), DataError):
        task = build_chat_task(name, settings, seed, root)
    spec = {"name": name, "settings": settings.model_dump(mode="json"), "seed": seed}
    with publishing(out, kind="task", spec=spec) as draft:
        behaviors = [
            behavior_row(behavior, split)
            for split, part in (("train", task.train), ("test", task.test))
            for behavior in (part.behaviors if part else [])
        ]
        chats = [
            chat_row(chat, split)
            for split in ("train", "validation")
            for chat in (getattr(task.utility, split) if task.utility else [])
        ]
        write_table(draft.path / BEHAVIORS_FILE, behaviors, BEHAVIORS, private=True)
        write_table(draft.path / CHATS_FILE, chats, CHATS)
        draft.note(**_facts(task, settings))
    for split, part in (("train", task.train), ("test", task.test)):
        _say_unmatched(f"{name}: {split}", part)


def _facts(task: BuiltChatTask, settings: ChatTaskSettings) -> dict[str, Any]:
    utility = task.utility
    return {
        "kind": KIND,
        "labels": [],
        "chunk_kinds": [],
        "pieces": [],
        "position": settings.position,
        "max_tokens": settings.max_tokens,
        "max_new_tokens": settings.max_new_tokens,
        **({"sampling": settings.sampling.model_dump()} if settings.sampling else {}),
        "system_prompt": settings.system_prompt,
        "source": settings.test.behaviors,
        "n_train": len(task.train.behaviors) if task.train else 0,
        "n_validation": len(task.test.behaviors),
        "train": task.train.facts if task.train else None,
        "test": task.test.facts,
        "n_utility_train": len(utility.train) if utility else 0,
        "n_utility_validation": len(utility.validation) if utility else 0,
        "utility": utility.facts if utility else None,
    }


def _say_unmatched(what: str, part: Chosen | None) -> None:
    """One line where behaviors, targets and safe answers do not fit together."""
    facts = part.facts if part else {}
    counts = {
        "targets without a behavior": len(facts.get("unmatched_targets", [])),
        "behaviors without a target": len(facts.get("without_target", [])),
        "copies of an earlier behavior left out": len(facts.get("copies_left_out", [])),
        "copies of an earlier behavior kept": facts.get("n_copies", 0),
        "empty openings left out": facts.get("n_empty_targets", 0),
        "safe answers without a behavior": facts.get("n_unmatched_safe_answers", 0),
        "behaviors without a safe answer": len(facts.get("without_safe_answer", [])),
    }
    if any(counts.values()):
        shown = ", ".join(f"{n} {which}" for which, n in counts.items() if n)
        say(f"{what}: {shown}; see the manifest for ids; the task's target and safe_answer stand in")


def _check_disjoint(name: str, train: list[Behavior], test: list[Behavior]) -> None:
    """Refuse behaviors that are trained against and attacked, whatever their spelling."""
    ids = {one.behavior_id for one in train} & {one.behavior_id for one in test}
    texts = {_plain(one.behavior) for one in train} & {_plain(one.behavior) for one in test}
    if ids or texts:
        raise DataError(
            f"tasks.{name}: train and test share {len(ids)} ids and {len(texts)} behaviors (case and punctuation "
            "aside); choose other ids or categories for one of them"
        )


def _plain(text: str) -> str:
    """Letters and digits alone, in one case; the text itself where it has none."""
    return "".join(character for character in text.casefold() if character.isalnum()) or text


def _local(key: str, place: Any, root: Path | None) -> Path | None:
    """A located file on this machine, fetched from the hub where need be."""
    return fetched(key, place, root) if isinstance(place, HubFile) else place
