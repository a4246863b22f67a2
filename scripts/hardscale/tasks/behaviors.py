"""Behaviours with the openings that attacks aim at, from files in HarmBench's formats, or StrongREJECT's.

Behaviours are never part of a message: rows, ids and counts are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import sha256_file
from hardscale.errors import DataError
from hardscale.settings.chat import BehaviorSource, ChatTaskSettings
from hardscale.tasks.chat import Behavior
from hardscale.tasks.source import Row, column_names, read_columns
from hardscale.tasks.splits import text_of

#: What a column may be called, the first that is there is taken.
_BEHAVIOR = ("Behavior", "forbidden_prompt")
_ID = ("BehaviorID",)
_CONTEXT = ("ContextString",)
_CATEGORY = ("FunctionalCategory", "Category", "category")
_SAFE = ("Behavior", "Safe_Response")


@dataclass(frozen=True)
class Files:
    """The files of one split, on this machine; None for one that the study does not name."""

    behaviors: Path
    targets: Path | None
    safe_answers: Path | None


@dataclass(frozen=True)
class Chosen:
    """The behaviours of one split, and what of their files did not fit together.

    Attributes:
        behaviors: in the order of use.
        facts: digests of the files and of the ids used, and every unmatched id.
    """

    behaviors: list[Behavior]
    facts: dict[str, Any]


def read_behaviors(key: str, source: BehaviorSource, files: Files, settings: ChatTaskSettings) -> Chosen:
    """The behaviours of one split.

    Args:
        key: of the split in the study, for messages.
        source: which of them to use.
        files: where they are.
        settings: of the task: the opening and the safe answer for behaviours whose files have none.

    Raises:
        DataError: a file is malformed, a text is empty, an id is there twice, asked for but unknown, or none is left.
    """
    known = _read_rows(files.behaviors)
    used = _subset(key, source, files.behaviors, known)
    targets, n_empty = _read_targets(files.targets) if files.targets else ({}, 0)
    answers = _read_answers(files.safe_answers) if files.safe_answers else {}
    behaviors = [
        Behavior(
            **row,
            targets=tuple(targets.get(row["behavior_id"], [settings.target])[: source.n_targets]),
            safe_answer=answers.get(row["behavior"], settings.safe_answer),
        )
        for row in used
    ]
    ids = [behavior.behavior_id for behavior in behaviors]
    texts = {row["behavior"] for row in known}
    facts = {
        "n": len(ids),
        "ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "source": source.behaviors,
        "files": {f"{p.parent.name}/{p.name}": sha256_file(p) for p in vars(files).values() if p},
        "n_targets": sum(len(behavior.targets) for behavior in behaviors),
        "n_empty_targets": n_empty,
        "unmatched_targets": sorted(set(targets) - {row["behavior_id"] for row in known}),
        "without_target": [name for name in ids if name not in targets] if files.targets else [],
        "n_unmatched_safe_answers": sum(text not in texts for text in answers),
        "without_safe_answer": [b.behavior_id for b in behaviors if b.behavior not in answers] if answers else [],
    }
    return Chosen(behaviors, facts)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Every row as the fields of a Behavior that the file itself gives."""
    if path.suffix not in (".csv", ".jsonl", ".parquet"):
        raise DataError(f"{path}: behaviours are read from csv, jsonl or parquet; found {path.suffix or 'no suffix'!r}")
    names = column_names(path)
    behavior, name, context, category = (
        next((column for column in columns if column in names), None)
        for columns in (_BEHAVIOR, _ID, _CONTEXT, _CATEGORY)
    )
    if behavior is None:
        raise DataError(f"{path}: no column {' or '.join(map(repr, _BEHAVIOR))}; found {', '.join(names)[:300]}")
    wanted = [column for column in (behavior, name, context, category) if column]
    found: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    for row in _rows(path, wanted):
        text = text_of(row, behavior).strip()
        called = text_of(row, name).strip() if name else f"row_{row.number}"
        if not text or not called:
            raise DataError(f"{row.where}: column {behavior if not text else name!r} is empty; mend or remove the row")
        if first.setdefault(called, row.number) != row.number:
            raise DataError(f"{row.where}: the id of row {first[called]} again ({called!r}); ids must differ")
        found.append(
            {
                "row_id": row.index,
                "behavior_id": called,
                "behavior": text,
                "context": (text_of(row, context).strip() or None) if context else None,
                "category": (text_of(row, category).strip() or None) if category else None,
            }
        )
    if not found:
        raise DataError(f"{path}: no rows; give a file with at least one behaviour")
    return found


def _subset(key: str, source: BehaviorSource, path: Path, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a study asks for: by id in its order, then by category, then the first ones."""
    by_id = {row["behavior_id"]: row for row in known}
    used = known
    if source.ids is not None:
        unknown = [name for name in source.ids if name not in by_id]
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise DataError(
                f"{key}.ids: not in {path}: {', '.join(unknown[:5])}{more}; give ids of its {len(known)} behaviours"
            )
        if len(set(source.ids)) != len(source.ids):
            raise DataError(f"{key}.ids: found {len(source.ids) - len(set(source.ids))} ids twice; list each once")
        used = [by_id[name] for name in source.ids]
    if source.categories is not None:
        allowed = sorted({row["category"] for row in known if row["category"]})
        unknown = [name for name in source.categories if name not in allowed]
        if unknown:
            raise DataError(
                f"{key}.categories: found {', '.join(unknown[:5])}, {path} has {', '.join(allowed)[:300] or 'none'}"
            )
        used = [row for row in used if row["category"] in source.categories]
    if not used:
        raise DataError(f"{key}: no behaviour of {path} is in ids and categories at once; mend one of them")
    return used[: source.n]


def _read_targets(path: Path) -> tuple[dict[str, list[str]], int]:
    """Id -> openings, and how many empty ones were left out: HarmBench's lists for training hold a few."""
    pairs = _json_object(path)
    found: dict[str, list[str]] = {}
    n_empty = 0
    for number, (name, value) in enumerate(pairs, start=1):
        openings = [value] if isinstance(value, str) else value
        where = f"{path}: row {number} ({name!r})"
        if not isinstance(openings, list) or not all(isinstance(text, str) for text in openings):
            raise DataError(f"{where}: found {type(value).__name__}, expected an opening or a list of openings")
        if name in found:
            raise DataError(f"{where}: the same id twice; keep one of them")
        found[name] = [text for text in openings if text.strip()]
        n_empty += len(openings) - len(found[name])
        if not found[name]:
            raise DataError(f"{where}: every opening is empty; mend or remove it")
    return found, n_empty


def _json_object(path: Path) -> list[tuple[str, Any]]:
    """Pairs of a JSON object in their order, those of equal keys too."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not readable as JSON ({reason}); fetch or write it again") from error
    if not isinstance(content, _Pairs):
        raise DataError(f"{path}: found {type(content).__name__}, expected an object: id -> opening, or openings")
    return list(content)


class _Pairs(list[tuple[str, Any]]):
    """What of a JSON object its keys and values are, which a plain list is not."""


def _read_answers(path: Path) -> dict[str, str]:
    """Behaviour -> safe answer."""
    found: dict[str, str] = {}
    for row in _rows(path, list(_SAFE)):
        text, answer = (text_of(row, column).strip() for column in _SAFE)
        if not text or not answer:
            raise DataError(f"{row.where}: column {_SAFE[0 if not text else 1]!r} is empty; mend or remove the row")
        if found.setdefault(text, answer) != answer:
            raise DataError(f"{row.where}: another answer to the behaviour of an earlier row; keep one of them")
    return found


def _rows(path: Path, columns: Sequence[str]) -> list[Row]:
    values = read_columns(path, tuple(columns))
    return [
        Row(i, str(path), i + 1, dict(zip(columns, row, strict=True)))
        for i, row in enumerate(zip(*values.values(), strict=True))
    ]
