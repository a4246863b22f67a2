"""What chat models are asked besides behaviours: harmless requests, questions with four choices, polite behaviours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hardscale.artifacts.manifest import sha256_file
from hardscale.errors import DataError
from hardscale.evaluation.harmless import HARMLESS
from hardscale.tasks.fetch import file_here
from hardscale.tasks.source import column_names, read_columns

LETTERS = "ABCD"
#: XSTest's types that begin so are unsafe counterparts of the safe ones.
_UNSAFE = "contrast_"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Question:
    """Something that a model is asked.

    Attributes:
        key: row of its table, or number in its list, from 0.
        text: the user's words.
        answer: index of the right choice, where there are choices.
    """

    key: int
    text: str
    answer: int | None = None


@dataclass(frozen=True)
class Questions:
    """A set of questions and the digest of the file it came from, None for our own list."""

    asked: list[Question]
    sha256: str | None


def spread(rows: Sequence[_T], n: int) -> list[_T]:
    """At most ``n`` rows at equal distances, so that every part of a sorted table is there; the same for all models."""
    return [rows[i * len(rows) // n] for i in range(n)] if n < len(rows) else list(rows)


def harmless_questions(source: str | None, n: int, root: Path | None) -> Questions:
    """Harmless requests: our own, or the safe ones of a table with XSTest's columns.

    Raises:
        DataError: the table is not there, lacks a column or has no safe prompts.
    """
    if source is None:
        return Questions(spread([Question(i, text) for i, text in enumerate(HARMLESS)], n), None)
    path = file_here("utility.harmless", source, root)
    columns = read_columns(path, ("prompt", "type"))
    rows = [
        Question(i, _text(path, i, text))
        for i, (text, kind) in enumerate(zip(columns["prompt"], columns["type"], strict=True))
        if not str(kind).startswith(_UNSAFE)
    ]
    return _chosen(path, rows, n)


def choice_questions(source: str, n: int, root: Path | None) -> Questions:
    """Questions with four choices each, as a user would put them.

    Raises:
        DataError: the table is not there or lacks a column, or a row has other than four choices or no such answer.
    """
    path = file_here("utility.mmlu", source, root)
    columns = read_columns(path, ("question", "choices", "answer"))
    rows = []
    for i, (text, choices, answer) in enumerate(zip(*columns.values(), strict=True)):
        options = _choices(path, i, choices)
        lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
        asked = "\n".join([_text(path, i, text), *lines, "Answer with the letter of the right choice."])
        rows.append(Question(i, asked, _answer(path, i, answer)))
    return _chosen(path, rows, n)


def polite_questions(source: str, n: int, root: Path | None) -> Questions:
    """Politely put behaviours, from a table with HarmBench's columns.

    Raises:
        DataError: the table is not there or lacks a column.
    """
    path = file_here("utility.polite", source, root)
    known = column_names(path)
    wanted = ("Behavior", *(name for name in ("ContextString",) if name in known))
    columns = read_columns(path, wanted)
    contexts = columns.get("ContextString") or [None] * len(columns["Behavior"])
    rows = []
    for i, (text, context) in enumerate(zip(columns["Behavior"], contexts, strict=True)):
        above = f"{context.strip()}\n\n---\n\n" if isinstance(context, str) and context.strip() else ""
        rows.append(Question(i, above + _text(path, i, text)))
    return _chosen(path, rows, n)


def _chosen(path: Path, rows: list[Question], n: int) -> Questions:
    if not rows:
        raise DataError(f"{path}: no rows to ask; give a table with at least one")
    return Questions(spread(rows, n), sha256_file(path))


def _text(path: Path, row: int, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}: row {row + 1} has no text; mend or remove it")
    return value.strip()


def _choices(path: Path, row: int, value: Any) -> list[str]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, list) or len(found) != len(LETTERS):
        raise DataError(f"{path}: row {row + 1}: choices must be a list of four, in csv as JSON; mend the row")
    return [str(choice) for choice in found]


def _answer(path: Path, row: int, value: Any) -> int:
    text = str(value).strip().upper()
    if len(text) == 1 and text in LETTERS:
        return LETTERS.index(text)
    if text.isdecimal() and int(text) < len(LETTERS):
        return int(text)
    raise DataError(f"{path}: row {row + 1}: answer {text[:20]!r} is neither 0 to 3 nor A to D; mend the row")
