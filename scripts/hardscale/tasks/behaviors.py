"""Behaviors with the openings that attacks aim at, from files in a published layout or one that the study names.

Behaviors are never part of a message: rows, ids and counts are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import sha256_file
from hardscale.errors import DataError
from hardscale.settings.chat import BehaviorSource, ChatTaskSettings
from hardscale.tasks.chat import Behavior
from hardscale.tasks.copies import first_copies
from hardscale.tasks.formats.files import MAX_TEXT_BYTES, read_table_file
from hardscale.tasks.formats.json_table import Pairs, kind_of, parsed
from hardscale.tasks.formats.table import Table
from hardscale.tasks.layouts import ColumnLayout, choose_layout
from hardscale.tasks.source import Row, counted
from hardscale.tasks.splits import text_of
from hardscale.untrusted.guarded import read_text, shown
from hardscale.untrusted.naming import brief, plainly

_SAFE = ("Behavior", "Safe_Response")


@dataclass(frozen=True)
class Files:
    """The files of one split, on this machine; None for one that the study does not name."""

    behaviors: Path
    targets: Path | None
    safe_answers: Path | None


@dataclass(frozen=True)
class Chosen:
    """The behaviors of one split, and what of their files did not fit together.

    Attributes:
        behaviors: in the order of use.
        facts: digests of the files and of the ids used, and every unmatched id.
        misfit: a line that says so where a whole file belongs to none of the behaviors.
    """

    behaviors: list[Behavior]
    facts: dict[str, Any]
    misfit: str | None = None


@dataclass(frozen=True)
class _Known:
    """Every row of a table of behaviors, as the fields of a Behavior that it gives, and how it was read.

    Attributes:
        rows: ``targets`` of a row are the openings in its own table, none where that has no column for them.
        layout: which columns are which.
        read: counts of the file's reader.
    """

    rows: list[dict[str, Any]]
    layout: ColumnLayout
    read: dict[str, Any]


def read_behaviors(
    key: str, source: BehaviorSource, files: Files, settings: ChatTaskSettings, measured: bool = True
) -> Chosen:
    """The behaviors of one split.

    Args:
        key: of the split in the study, for messages.
        source: which of them to use.
        files: where they are.
        settings: of the task: the opening and the safe answer for behaviors whose files have none.
        measured: whether something is measured on them; of equal requests the first counts then.

    Raises:
        DataError: a file is malformed, a text is empty, an id is there twice, asked for but unknown, or none is left.
    """
    known = _read_rows(key, source, files.behaviors)
    used, copies = _subset(key, source, files.behaviors, known.rows, measured)
    targets, n_empty = _read_targets(files.targets) if files.targets else ({}, 0)
    answers, answers_read = _read_answers(files.safe_answers) if files.safe_answers else ({}, {})
    ids, texts = {row["behavior_id"] for row in known.rows}, {row["behavior"] for row in known.rows}
    misfit = None
    if targets and not ids & set(targets):
        misfit = (
            f"{key}.targets: none of the {len(targets)} ids in {files.targets} is in {files.behaviors} "
            f"({known.layout.id or 'its rows are numbered'}); name their column as {key}.id_column"
        )
    elif answers and not texts & set(answers):
        misfit = (
            f"{key}.safe_answers: none of the {len(answers)} behaviors in {files.safe_answers} is in {files.behaviors} "
            f"({known.layout.request}); give the safe answers of these behaviors"
        )
    behaviors = [
        Behavior(
            **{
                **row,
                "targets": tuple(
                    (targets.get(row["behavior_id"]) or row["targets"] or [settings.target])[: source.n_targets]
                ),
            },
            safe_answer=answers.get(row["behavior"], settings.safe_answer),
        )
        for row in used
    ]
    chosen_ids = [behavior.behavior_id for behavior in behaviors]
    with_own = {row["behavior_id"] for row in used if row["targets"]}
    facts = {
        "n": len(chosen_ids),
        "ids_sha256": hashlib.sha256("\n".join(chosen_ids).encode()).hexdigest(),
        "source": source.behaviors,
        "layout": vars(known.layout),
        "read": known.read,
        "n_safe_answers_read": answers_read,
        "n_not_chosen": len(known.rows) - len(used) - len(copies),
        "copies_left_out": copies,
        "n_copies": len(used) - len({_request(row) for row in used}),
        "files": {f"{p.parent.name}/{p.name}": sha256_file(p) for p in vars(files).values() if p},
        "n_targets": sum(len(behavior.targets) for behavior in behaviors),
        "n_targets_of_the_table": len(with_own - set(targets)),
        "n_empty_targets": n_empty,
        "unmatched_targets": sorted(brief(name).strip("'") for name in set(targets) - ids),
        "without_target": [i for i in chosen_ids if i not in targets and i not in with_own]
        if files.targets or known.layout.target
        else [],
        "n_unmatched_safe_answers": sum(text not in texts for text in answers),
        "without_safe_answer": [b.behavior_id for b in behaviors if b.behavior not in answers] if answers else [],
    }
    return Chosen(behaviors, facts, misfit)


def _read_rows(key: str, source: BehaviorSource, path: Path) -> _Known:
    table = read_table_file(path)
    layout = choose_layout(f"{key}.request_column", path, table.names, source.columns)
    found: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    for row in _rows(table, layout.columns, layout.optional):
        text = text_of(row, layout.request).strip()
        called = _id_of(row, layout.id) if layout.id else f"row_{row.number}"
        if not text or not called:
            column = layout.id if text and layout.id else layout.request
            raise DataError(f"{row.where}: column {column!r} is empty; fix or remove the row")
        if first.setdefault(called, row.number) != row.number:
            raise DataError(f"{row.where}: the id of row {first[called]} again ({brief(called)}); ids must differ")
        opening = text_of(row, layout.target) if layout.target else ""
        found.append(
            {
                "row_id": row.index,
                "behavior_id": called,
                "behavior": text,
                "context": (text_of(row, layout.context).strip() or None) if layout.context else None,
                "category": (text_of(row, layout.category).strip() or None) if layout.category else None,
                "targets": [opening] if opening.strip() else [],
            }
        )
    if not found:
        raise DataError(f"{path}: no rows; give a file with at least one behavior")
    return _Known(found, layout, counted(table))


def _id_of(row: Row, column: str) -> str:
    """An id as it is written; whole numbers by their digits, others cannot be told apart from what was written."""
    value = row.values[column]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise DataError(f"{row.where}: column {brief(column)} holds a number with a point; write ids as texts")
    return text_of(row, column).strip()


def _request(row: dict[str, Any]) -> tuple[Any, Any]:
    """What makes two behaviors copies."""
    return row["context"], row["behavior"]


def _subset(
    key: str, source: BehaviorSource, path: Path, known: list[dict[str, Any]], once: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows that a study asks for: by id in its order, then by category, each request once, then the first ones.

    And the ids of those that repeat an earlier request.
    """
    by_id = {row["behavior_id"]: row for row in known}
    used = known
    if source.ids is not None:
        unknown = [name for name in source.ids if name not in by_id]
        if unknown:
            first = ", ".join(map(shown, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            raise DataError(f"{key}.ids: not in {path}: {first}; give ids of its {len(known)} behaviors")
        if len(set(source.ids)) != len(source.ids):
            raise DataError(f"{key}.ids: found {len(source.ids) - len(set(source.ids))} ids twice; list each once")
        used = [by_id[name] for name in source.ids]
    if source.categories is not None:
        allowed = sorted({row["category"] for row in known if row["category"]})
        unknown = [name for name in source.categories if name not in allowed]
        if unknown:
            raise DataError(f"{key}.categories: found {', '.join(unknown[:5])}, {path} has {plainly(allowed)}")
        used = [row for row in used if row["category"] in source.categories]
    if not used:
        raise DataError(f"{key}: no behavior of {path} is in ids and categories at once; fix one of them")
    distinct = first_copies(used, _request) if once else used
    kept = {row["behavior_id"] for row in distinct}
    return distinct[: source.n], [row["behavior_id"] for row in used if row["behavior_id"] not in kept]


def _read_targets(path: Path) -> tuple[dict[str, list[str]], int]:
    """Id -> openings, and how many empty ones were left out: HarmBench's lists for training hold a few."""
    found: dict[str, list[str]] = {}
    n_empty = 0
    for number, (name, value) in enumerate(_json_object(path), start=1):
        openings = [value] if isinstance(value, str) else value
        where = f"{path}: row {number} ({brief(name)})"
        if isinstance(openings, Pairs) or not isinstance(openings, list):
            raise DataError(f"{where}: found {kind_of(value)}, expected an opening or a list of openings")
        wrong = [one for one in openings if not isinstance(one, str)]
        if wrong:
            raise DataError(f"{where}: found {kind_of(wrong[0])} in its list, expected openings alone")
        if name in found:
            raise DataError(f"{where}: the same id twice; keep one of them")
        for opening in openings:
            _check_text(where, opening)
        found[name] = [text for text in openings if text.strip()]
        n_empty += len(openings) - len(found[name])
        if not found[name]:
            raise DataError(f"{where}: every opening is empty; fix or remove it")
    if not found:
        raise DataError(f"{path}: no openings in it; give an object of id -> opening, or openings")
    return found, n_empty


def _check_text(where: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: an opening holds half a character; fix or remove it") from None


def _json_object(path: Path) -> list[tuple[str, Any]]:
    """Pairs of a JSON object in their order, those of equal keys too."""
    text = read_text(path, "targets", max_bytes=MAX_TEXT_BYTES, byte_order_mark=True)
    content = parsed(f"{path}: not readable as JSON", text, pairs=True)
    if not isinstance(content, Pairs):
        raise DataError(f"{path}: found {kind_of(content)}, expected an object: id -> opening, or openings")
    return list(content)


def _read_answers(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Behavior -> safe answer, and the counts of the reader."""
    table = read_table_file(path)
    found: dict[str, str] = {}
    for row in _rows(table, _SAFE):
        text, answer = (text_of(row, column).strip() for column in _SAFE)
        if not text or not answer:
            raise DataError(f"{row.where}: column {_SAFE[0 if not text else 1]!r} is empty; fix or remove the row")
        if found.setdefault(text, answer) != answer:
            raise DataError(f"{row.where}: another answer to the behavior of an earlier row; keep one of them")
    if not found:
        raise DataError(f"{path}: no rows; give a table with at least one safe answer")
    return found, counted(table)


def _rows(table: Table, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[Row]:
    values = table.take(columns, optional)
    return [
        Row(i, str(table.path), i + 1, dict(zip(columns, row, strict=True)))
        for i, row in enumerate(zip(*values.values(), strict=True))
    ]
