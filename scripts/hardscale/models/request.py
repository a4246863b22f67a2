"""One request to a chat model as three texts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One request to a chat model, for attacks that rewrite it as a whole.

    Attributes:
        before: the rendered template before the user's words.
        text: the user's words.
        after: the rendered template after them, up to where the reply begins.
    """

    before: str
    text: str
    after: str
