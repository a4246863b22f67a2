"""Names and numbers of rows in messages. What is too long to be a name is told by its length: it may be a text."""

from __future__ import annotations

from collections.abc import Sequence

#: How many numbers, and how many names, a line lists.
_NUMBERS, _NAMES = 5, 12
#: Characters of a name of one word, as ids are, and of several words.
_LONGEST_WORD, _LONGEST_NAME = 80, 24


def brief(name: str) -> str:
    """A name in quotes, or only its length where it is no name: a file without a header has a row in its place."""
    words = name.split()
    is_name = len(name) <= _LONGEST_WORD if len(words) < 2 else len(name) <= _LONGEST_NAME and len(words) <= 3
    return repr(name) if is_name else f"(a text of {len(name)} characters)"


def named(names: Sequence[str]) -> str:
    """Names in quotes: the first ones."""
    return ", ".join(map(brief, names[:_NAMES])) + (" ..." if len(names) > _NAMES else "") or "none"


def plainly(names: Sequence[str]) -> str:
    """Like :func:`named`, without quotes."""
    return named(names).replace("'", "")


def numbers(found: Sequence[int]) -> str:
    """Row numbers: the first ones and how many more there are."""
    shown = ", ".join(map(str, found[:_NUMBERS]))
    return shown + (f" and {len(found) - _NUMBERS} more" if len(found) > _NUMBERS else "")
