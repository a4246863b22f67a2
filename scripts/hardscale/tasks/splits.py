"""From rows to two splits: who goes where, in which order, and never into both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.copies import first_copies, n_copies, split_off
from hardscale.tasks.formats.json_table import kind_of
from hardscale.tasks.source import Row, Source
from hardscale.untrusted.naming import brief

T = TypeVar("T")


@dataclass(frozen=True)
class SplitRecord:
    """A usable row: its index in the source, its texts before and after cutting, its label (0 where rows have none)."""

    example_id: int
    original: tuple[str, ...]
    texts: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Splits:
    """Both splits in their final order, and what became of all other rows.

    Attributes:
        train: examples to train on.
        validation: examples to measure on, no content twice.
        dropped: how many rows were left out, by reason.
        copies: rows that repeat the content of another: kept in training, left out of validation.
        beyond_n: rows of each split after the first ``n_train`` and ``n_validation``.
    """

    train: list[SplitRecord]
    validation: list[SplitRecord]
    dropped: dict[str, int]
    copies: dict[str, int]
    beyond_n: dict[str, int]

    @property
    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {"dropped": self.dropped, "n_copies": self.copies, "beyond_n": self.beyond_n}


def shuffled(items: Sequence[T], n: int, seed: int) -> list[T]:
    """The first ``n`` items in an order drawn by seed."""
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[i] for i in order[:n]]


def draw_splits(
    name: str, source: Source, records: dict[str, list[SplitRecord]], settings: TaskSettings, seed: int
) -> Splits:
    """Shuffled and capped splits; a validation row with the content of any training row is left out.

    A source without validation rows is divided by content; see :func:`hardscale.tasks.copies.split_off`. In validation
    the copies of a content count once; in training they stay, and are counted.

    Raises:
        DataError: nothing is left of a split.
    """
    train, validation = records["train"], records.get("validation")
    how = ""
    if validation is None:
        share = settings.validation_fraction
        train, validation = split_off(train, share, lambda one: one.original, lambda one: one.label)
        how = f" after {share:g} of the rows were split off by content; give a file for each split, or more rows"
    known = {_content(record) for record in train}
    new = [record for record in validation if _content(record) not in known]
    once = first_copies(new, _content)
    for which, read, left in (("train", train, train), ("validation", validation, once)):
        if not left:
            why = "every row is also in training" if read else "no row with content"
            raise DataError(f"{source.file_of(which)}: the {which} split of tasks.{name} is empty: {why}{how}")
    n_read = sum(map(len, source.splits.values()))
    n_used = sum(map(len, records.values()))
    drawn = Splits(
        train=shuffled(train, settings.n_train, seed),
        validation=shuffled(once, settings.n_validation, seed),
        dropped={
            "without_content": n_read - n_used,
            "validation_also_in_train": len(validation) - len(new),
        },
        copies={"train": n_copies(train, _content), "validation_left_out": len(new) - len(once)},
        beyond_n={
            "train": max(0, len(train) - settings.n_train),
            "validation": max(0, len(once) - settings.n_validation),
        },
    )
    _check_sum(name, n_read, drawn)
    return drawn


def _content(record: SplitRecord) -> frozenset[str]:
    """What makes two records copies: their texts as they are used, in either order where they are two."""
    return frozenset(record.texts)


def _check_sum(name: str, n_read: int, drawn: Splits) -> None:
    n_out = len(drawn.train) + len(drawn.validation) + drawn.copies["validation_left_out"]
    n_out += sum(drawn.dropped.values()) + sum(drawn.beyond_n.values())
    if n_out != n_read:
        raise DataError(
            f"tasks.{name}: {n_read} rows were read, and {n_out} were used or left out; this is a fault of the reader"
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
        DataError: the value is no text, or cannot be written as UTF-8.
    """
    value = row.values[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{row.where}: column {brief(column)} holds {kind_of(value)}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{row.where}: column {brief(column)} holds half a character ({error.reason}); fix the row"
        ) from None
    return value
