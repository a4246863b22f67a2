"""Whether a name of a study is one of those that exist there."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable


def known(key: str, name: str, allowed: Iterable[str], what: str = "") -> None:
    """Refuse a name that is not one of ``allowed``.

    Args:
        key: its place in the study.
        name: as the study gives it.
        allowed: the names that exist.
        what: of what kind these are, for the message.

    Raises:
        ValueError: it is another one.
    """
    names = list(allowed)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    raise ValueError(f"{key}: {name!r} is not one of {shown or 'none'}{f' ({what})' if what else ''}{hint}")


def once(key: str, values: Iterable[Hashable]) -> None:
    """Refuse a list that holds a value twice.

    Raises:
        ValueError: it does.
    """
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{key}: {value!r} is there twice; give it once")
        seen.add(value)
