"""Questions of two turns, from a file in MT-Bench's format (arXiv 2306.05685)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from hardscale.artifacts.manifest import sha256_file
from hardscale.errors import DataError
from hardscale.evaluation.questions import spread
from hardscale.runtime.console import say
from hardscale.tasks.copies import first_copies
from hardscale.tasks.fetch import file_here
from hardscale.tasks.formats.files import MAX_TEXT_BYTES
from hardscale.tasks.formats.json_table import parsed
from hardscale.untrusted.guarded import read_text
from hardscale.untrusted.naming import brief

N_TURNS = 2
#: Temperature at which the public benchmark samples the replies of a category; 0 is greedy.
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
#: ... of any other category.
OTHER_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Dialogue:
    """A question of two turns.

    Attributes:
        key: its row in the file, from 0.
        question_id: its name.
        category: what it tests.
        turns: the user's words.
        references: a right answer to each turn, None where there is none.
    """

    key: int
    question_id: str
    category: str
    turns: tuple[str, str]
    references: tuple[str | None, str | None]

    @property
    def temperature(self) -> float:
        """That of the public benchmark."""
        return TEMPERATURES.get(self.category, OTHER_TEMPERATURE)


def read_dialogues(source: str, n: int | None, root: Path | None) -> tuple[list[Dialogue], str]:
    """Questions at equal distances in the file, and its digest.

    Raises:
        DataError: the file is not there, or a row of it has another form; the line names file and row.
    """
    path = file_here("utility.mt_bench.questions", source, root)
    found = [_dialogue(f"{path}: row {number}", number - 1, row) for number, row in _rows(path)]
    if not found:
        raise DataError(f"{path}: no questions in it; give a question.jsonl with at least one")
    names = [one.question_id for one in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise DataError(f"{path}: question_id {brief(double)} is there twice; ids must differ")
    once = first_copies(found, lambda one: one.turns)
    if len(once) < len(found):
        say(f"{path}: {len(found) - len(once)} copies of earlier questions left out")
    return spread(once, n or len(once)), sha256_file(path)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    text = read_text(path, "a file of questions", max_bytes=MAX_TEXT_BYTES, byte_order_mark=True)
    number = 0
    for line in text.split("\n"):
        if line.strip():
            number += 1
            yield number, parsed(f"{path}: row {number} is not JSON", line)


def _dialogue(where: str, key: int, row: Any) -> Dialogue:
    if not isinstance(row, dict):
        raise DataError(f"{where} is {type(row).__name__}, expected an object with question_id, category, turns")
    name, category, turns = (row.get(column) for column in ("question_id", "category", "turns"))
    if not isinstance(name, str | int) or isinstance(name, bool) or not isinstance(category, str):
        raise DataError(f"{where}: question_id and category must be there, as texts; mend the row")
    if not _texts(turns) or len(turns) != N_TURNS or not all(turn.strip() for turn in turns):
        raise DataError(f"{where}: turns must be a list of two texts; mend or remove the row")
    known = row.get("reference") or []
    if not _texts(known) or len(known) > N_TURNS:
        raise DataError(f"{where}: reference must be a list of at most two texts; mend or remove it")
    references: list[str | None] = [text.strip() or None for text in known]
    references += [None] * (N_TURNS - len(known))
    first, second = (turn.strip() for turn in turns)
    return Dialogue(key, str(name), category, (first, second), (references[0], references[1]))


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
