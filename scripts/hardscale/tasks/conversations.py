"""Ordinary conversations from tables: chat messages, prompts with responses, or Alpaca's instructions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import DataError
from hardscale.settings.chat import UtilitySource
from hardscale.tasks.chat import Chat
from hardscale.tasks.copies import first_copies, n_copies, split_off
from hardscale.tasks.formats.json_table import kind_of
from hardscale.tasks.locate import HubTable, LocalFiles
from hardscale.tasks.source import Row, Source, read_place
from hardscale.tasks.splits import shuffled, text_of
from hardscale.untrusted.naming import brief, plainly

Messages = tuple[tuple[str, str], ...]
#: Columns of the known formats, in order of preference.
FORMATS = (("messages",), ("prompt", "response"), ("instruction", "input", "output"))
ROLES = ("system", "user", "assistant")
#: Share split off by content where a source has no validation split.
_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Conversations:
    """Both splits in the order of use, and where they came from and what was left out."""

    train: list[Chat]
    validation: list[Chat]
    facts: dict[str, Any]


def read_conversations(
    name: str, settings: UtilitySource, place: LocalFiles | HubTable, root: Path | None, seed: int
) -> Conversations:
    """Conversations whose first user turn is short enough, shuffled by seed.

    Left out, and counted: long first turns, conversations in which user and assistant do not take turns or nobody
    answers, and validation conversations that are also in training.

    Args:
        name: of the task.
        settings: of the source.
        place: where it is.
        root: data root, if there is one.
        seed: of the study.

    Raises:
        DataError: the table cannot be read, has none of the known formats, or a split is empty.
    """

    def columns(where: str, names: list[str]) -> tuple[str, ...]:
        return _format(f"tasks.{name}.utility", where, names, settings.columns)

    source = read_place(f"{name}.utility", place, root, columns)
    left_out = {"long_first_turn": 0, "not_in_turns": 0, "validation_also_in_train": 0}

    def chat(row: Row) -> Chat | None:
        messages = messages_of(row)
        first = next((content for role, content in messages if role == "user"), None)
        if first is None or not takes_turns(messages):
            left_out["not_in_turns"] += 1
            return None
        if len(first) >= settings.max_first_turn_characters:
            left_out["long_first_turn"] += 1
            return None
        return Chat(row.index, messages)

    read = {split: [c for row in rows if (c := chat(row)) is not None] for split, rows in source.splits.items()}
    train, validation = read["train"], read.get("validation")
    if validation is None:
        train, validation = split_off(train, _VALIDATION_SHARE, _content, lambda _: 0)
    known = {_content(one) for one in train}
    fresh = [one for one in validation if _content(one) not in known]
    new = first_copies(fresh, _content)
    left_out["validation_also_in_train"] = len(validation) - len(fresh)
    copies = {"train": n_copies(train, _content), "validation_left_out": len(fresh) - len(new)}
    _check_sum(name, source, len(train) + len(fresh) + sum(left_out.values()))
    for split, kept in (("train", train), ("validation", new)):
        if not kept:
            raise DataError(
                f"{source.file_of(split)}: no conversation for {split} is left (left out: {_counted(left_out)}); "
                f"give more rows, or raise tasks.{name}.utility.max_first_turn_characters"
            )

    def drawn(chats: list[Chat], split: str, n: int | None) -> list[Chat]:
        return shuffled(chats, len(chats) if n is None else n, derive_seed(seed, "task", name, "utility", split))

    return Conversations(
        train=drawn(train, "train", settings.n_train),
        validation=drawn(new, "validation", settings.n_validation),
        facts={**source.facts, "left_out": left_out, "n_copies": copies},
    )


def _check_sum(name: str, source: Source, n_out: int) -> None:
    n_read = sum(map(len, source.splits.values()))
    if n_out != n_read:
        raise DataError(
            f"tasks.{name}.utility: {n_read} rows were read, and {n_out} were used or left out; this is a fault of the "
            "reader"
        )


def messages_of(row: Row) -> Messages:
    """The conversation of a row of any known format.

    Raises:
        DataError: a message is malformed, or a text is none.
    """
    if "messages" in row.values:
        return _listed(row)
    if "prompt" in row.values:
        return (("user", text_of(row, "prompt")), ("assistant", text_of(row, "response")))
    parts = [column for column in ("instruction", "input") if column in row.values]
    words = [text_of(row, column) for column in parts if text_of(row, column).strip()]
    return (("user", "\n\n".join(words)), ("assistant", text_of(row, "output")))


def takes_turns(messages: Messages) -> bool:
    """Whether user and assistant speak in turn after at most one system turn, with an answer and no empty turn."""
    roles = [role for role, _ in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    in_turn = all(role == ROLES[1 + i % 2] for i, role in enumerate(turns))
    return len(turns) > 1 and in_turn and all(content.strip() for _, content in messages)


def _listed(row: Row) -> Messages:
    value = row.values["messages"]
    if not isinstance(value, list):
        raise DataError(f"{row.where}: column 'messages' holds {kind_of(value)}, expected a list of messages")
    found = []
    for message in value:
        if not isinstance(message, dict) or not {"role", "content"} <= set(message):
            raise DataError(f"{row.where}: a message is not an object with role and content")
        if message["role"] not in ROLES:
            found_role = brief(message["role"]) if isinstance(message["role"], str) else kind_of(message["role"])
            raise DataError(f"{row.where}: a message of role {found_role}, allowed: {', '.join(ROLES)}")
        found.append((message["role"], text_of(Row(row.index, row.file, row.number, message), "content")))
    return tuple(found)


def _format(key: str, where: str, names: list[str], given: str | None) -> tuple[str, ...]:
    """The columns of the format that a table has, or of the one that the study names by its first column."""
    # Alpaca's second part of a request is not in all tables of its kind.
    there = [columns for columns in FORMATS if set(columns) - {"input"} <= set(names)]
    wanted = [columns for columns in there if given in (None, columns[0])]
    if not wanted:
        known = "; ".join(", ".join(columns) for columns in FORMATS)
        raise DataError(f"{where}: found columns {plainly(names)}, expected {given or 'one of'}: {known}")
    if len(wanted) > 1:
        firsts = ", ".join(columns[0] for columns in wanted)
        raise DataError(f"{where}: columns of several formats ({firsts}); name one of them as {key}.columns")
    return tuple(column for column in wanted[0] if column in names)


def _content(chat: Chat) -> tuple[str, ...]:
    return tuple(content for _, content in chat.messages)


def _counted(left_out: dict[str, int]) -> str:
    return ", ".join(f"{key} {n}" for key, n in left_out.items())
