"""What ends an answer's turn: the marker that a chat template writes behind it, as a token or as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from hardscale.errors import ModelError
from hardscale.models.rendering import RenderingError, rendered

#: Words that no template holds; what lies behind the answer is the template.
_USER, _ANSWER, _NEXT = "Sentinel of the user", "Sentinel of the reply", "Sentinel of another question"


@dataclass(frozen=True)
class TurnEnd:
    """What a model writes where its turn ends.

    Attributes:
        tokens: ids, each of which ends a turn.
        texts: texts that do so where a template's marker is no token of its own.
    """

    tokens: frozenset[int] = frozenset()
    texts: tuple[str, ...] = ()

    def cut(self, text: str) -> str:
        """A reply up to the first text that ends its turn."""
        found = [at for at in (text.find(end) for end in self.texts) if at >= 0]
        return text[: min(found)] if found else text


def markers(tokenizer: Any) -> dict[str, int]:
    """Tokens that a tokenizer reads whole wherever their text stands, with their ids; runs of white space are none.

    Some vocabularies (Gemma's, GPT-NeoX's) have runs of spaces or line breaks among them, which say nothing of turns.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token): index for index, token in added.items() if str(token).strip()}


def first_end(written: str, marks: Sequence[str]) -> str:
    """The end of a turn in what a template writes behind an answer: up to its first marker.

    Without a marker it is all that is written but white space at its end.
    """
    found = [(written.find(mark), -len(mark), mark) for mark in marks if mark in written]
    if not found:
        return written.rstrip()
    at, _, mark = min(found)
    return written[: at + len(mark)]


_known: WeakKeyDictionary[Any, tuple[Any, int, TurnEnd]] = WeakKeyDictionary()


def turn_end(tokenizer: Any) -> TurnEnd:
    """What ends a reply by a tokenizer's chat template; nothing without a template, or with one that cannot tell."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return TurnEnd()
    known, size = _known.get(tokenizer), len(tokenizer)
    if known is None or known[:2] != (template, size):
        known = _known[tokenizer] = (template, size, _found(tokenizer))
    return known[2]


def _found(tokenizer: Any) -> TurnEnd:
    marks = markers(tokenizer)
    talk = [("user", _USER), ("assistant", _ANSWER)]
    # Behind a last answer some templates write nothing; where another question follows, they do.
    for turns in (talk, [*talk, ("user", _NEXT)]):
        end = first_end(_behind_answer(tokenizer, turns), list(marks))
        if ending := [mark for mark in marks if end.endswith(mark)]:
            return TurnEnd(tokens=frozenset([marks[max(ending, key=len)]]))
        if end.strip():
            return TurnEnd(texts=(end.strip(),))
    return TurnEnd()


def _behind_answer(tokenizer: Any, turns: Sequence[tuple[str, str]]) -> str:
    """What a template writes behind the answer and before the next question."""
    try:
        text = rendered(tokenizer, turns, reply=False)
    except (ModelError, RenderingError):
        return ""
    _, found, behind = text.rpartition(_ANSWER)
    return behind.partition(_NEXT)[0] if found else ""
