"""Keeps texts that must not be read by chance out of errors: only that there was one is told, and where."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from hardscale.errors import AttackError, HardscaleError

#: So many characters in common are a quotation.
_QUOTED = 16


@contextlib.contextmanager
def withholding(texts: Iterable[str], kind: type[HardscaleError] = AttackError) -> Iterator[None]:
    """Let no exception leave that quotes one of the texts.

    Our own errors pass unless they quote; of any other only its type and place are told, as libraries put the values
    they stumble over into their messages. What caused an error is not shown with it.

    Args:
        texts: known when the work begins; looked through only when something fails.
        kind: what an error that is not ours becomes.
    """
    try:
        yield
    except HardscaleError as error:
        if not quotes(str(error), texts):
            raise type(error)(str(error)).with_traceback(error.__traceback__) from None
        line = f"an error quotes the data and is withheld ({place(error)}); run the failing step on its own data"
        raise type(error)(line).with_traceback(error.__traceback__) from None
    except MemoryError:
        raise
    except Exception as error:
        line = f"{type(error).__name__} in {place(error)}; its message is withheld, it may quote the data"
        raise kind(line).with_traceback(error.__traceback__) from None


@contextlib.contextmanager
def withholding_quotations(texts: Iterable[str]) -> Iterator[None]:
    """Like :func:`withholding`, where errors of all kinds pass unless they, or what caused them, quote.

    For work whose failures are told by what libraries say: memory, devices, disks.
    """
    try:
        yield
    except Exception as error:
        known = list(texts)
        if not any(quotes(str(one), known) for one in _chain(error)):
            raise
        line = f"an error quotes the data and is withheld ({type(error).__name__} in {place(error)})"
        raise HardscaleError(line).with_traceback(error.__traceback__) from None


def _chain(error: BaseException) -> list[BaseException]:
    """An error and all that stand behind it."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def quotes(message: str, texts: Iterable[str]) -> bool:
    """Whether a message shares a stretch of 16 characters with a text, or holds all of a shorter one of 6 or more."""
    plain = " ".join(message.casefold().split())
    pieces = {plain[i : i + _QUOTED] for i in range(len(plain) - _QUOTED + 1)}
    for text in texts:
        known = " ".join(text.casefold().split())
        if 6 <= len(known) < _QUOTED and known in plain:
            return True
        if any(piece in known for piece in pieces):
            return True
    return False


def place(error: BaseException) -> str:
    """File and line where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
