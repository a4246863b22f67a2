"""Copies of one text: which rows are kept, and which of them belong together.

An interval takes examples for independent draws; ten copies of one text are one draw. So where something is measured
(validation, test, questions) the first copy counts and the others are left out; training keeps them. Either way their
number is in the manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")


def first_copies(items: Sequence[T], content: Callable[[T], Hashable]) -> list[T]:
    """The items in order, of those with equal content the first alone."""
    first: dict[Hashable, T] = {}
    for item in items:
        first.setdefault(content(item), item)
    return list(first.values())


def n_copies(items: Sequence[T], content: Callable[[T], Hashable]) -> int:
    """How many items repeat the content of an earlier one."""
    return len(items) - len({content(item) for item in items})


def split_off(
    items: Sequence[T], fraction: float, content: Callable[[T], tuple[str, ...]], label: Callable[[T], int]
) -> tuple[list[T], list[T]]:
    """Divide items into two parts, the second with a share of the contents; order and seed change nothing.

    Of ``n`` different contents the second part has ``round(fraction n)``, at least one, and not all. Classes have it in
    proportion, by largest remainders; within a class those of the lowest hashes are taken, so a larger share holds
    the smaller one's, remainders aside. All copies of a content are on one side; with several labels they count to
    the lowest.

    Args:
        items: to divide; both parts keep their order.
        fraction: share of the second part, between 0 and 1.
        content: what makes two items copies.
        label: class of an item.
    """
    classes: dict[tuple[str, ...], int] = {}
    for item in items:
        key = content(item)
        classes[key] = min(label(item), classes.get(key, label(item)))
    members: dict[int, list[tuple[str, ...]]] = {}
    for key, class_index in classes.items():
        members.setdefault(class_index, []).append(key)
    sizes = {class_index: len(keys) for class_index, keys in sorted(members.items())}
    wanted = _shares(sizes, min(max(int(fraction * len(classes) + 0.5), 1), len(classes) - 1), fraction)
    taken = {key for one, n in wanted.items() for key in sorted(members[one], key=_rank)[:n]}
    return [item for item in items if content(item) not in taken], [item for item in items if content(item) in taken]


def _shares(sizes: dict[int, int], total: int, fraction: float) -> dict[int, int]:
    """How many of each class make up ``total``: the floor of each quota, one more where the remainder is largest."""
    shares = {one: int(fraction * size) for one, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda one: (shares[one] - fraction * sizes[one], one))
    while sum(shares.values()) < total:
        for one in by_remainder:
            if sum(shares.values()) < total and shares[one] < sizes[one]:
                shares[one] += 1
    return shares


def _rank(content: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(content).encode()).digest()
