"""From rows to two splits: who goes where, in which order, and never into both."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.source import Row, Source

T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """A usable row: its index in the source, its texts before and after cutting, its label (0 where rows have none)."""

    example_id: int
    original: tuple[str, ...]
    texts: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Splits:
    """Both splits in their final order, and how many rows were left out and why."""

    train: list[Record]
    validation: list[Record]
    dropped: dict[str, int]


def shuffled(items: Sequence[T], n: int, seed: int) -> list[T]:
    """The first ``n`` items in an order drawn by seed."""
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[i] for i in order[:n]]


def in_validation(texts: tuple[str, ...], fraction: float) -> bool:
    """Whether content belongs to the validation split: by its hash, so the order of rows changes nothing."""
    digest = hashlib.sha256("\x1f".join(texts).encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def draw_splits(
    name: str, source: Source, records: dict[str, list[Record]], settings: TaskSettings, seed: int
) -> Splits:
    """Shuffled and capped splits; a validation row with the content of any training row is left out.

    A source without validation rows is divided by content hash.

    Raises:
        DataError: nothing is left of a split.
    """
    train, validation = records["train"], records.get("validation")
    how = ""
    if validation is None:
        share = settings.validation_fraction
        train, validation = (
            [record for record in train if in_validation(record.original, share) == wanted] for wanted in (False, True)
        )
        how = f" after {share:g} of the rows were split off by content; give a file for each split, or more rows"
    known = {frozenset(record.texts) for record in train}
    new = [record for record in validation if frozenset(record.texts) not in known]
    for which, read, left in (("train", train, train), ("validation", validation, new)):
        if not left:
            why = "every row is also in training" if read else "no row with content"
            raise DataError(f"{source.file_of(which)}: the {which} split of tasks.{name} is empty: {why}{how}")
    n_read = sum(map(len, source.splits.values()))
    n_used = sum(map(len, records.values()))
    return Splits(
        train=shuffled(train, settings.n_train, seed),
        validation=shuffled(new, settings.n_validation, seed),
        dropped={"without_content": n_read - n_used, "validation_also_in_train": len(validation) - len(new)},
    )


def cut_to_words(text: str, n_words: int | None, keep: str = "first") -> str:
    """The first (or last) ``n_words`` words; spaces between them stay, a text that is short enough is unchanged."""
    if n_words is None:
        return text
    words = [match.span() for match in re.finditer(r"\S+", text)]
    if len(words) <= n_words:
        return text
    return text[: words[n_words - 1][1]] if keep == "first" else text[words[-n_words][0] :]


def text_of(row: Row, column: str) -> str:
    """A row's text, unchanged; "" where there is none.

    Raises:
        DataError: the value is no text, or can not be written as UTF-8.
    """
    value = row.values[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{row.where}: column {column!r} holds {type(value).__name__} {value!r:.60}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{row.where}: column {column!r} holds half a character ({error.reason}); mend the row"
        ) from error
    return value
