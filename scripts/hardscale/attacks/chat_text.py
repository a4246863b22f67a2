"""Conversations as tokens, and texts of one model that go into the prompt of another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

#: Markers of roles and instructions that templates write as ordinary text.
_MARKERS = re.compile(r"\[/?INST\]|<</?SYS>>|<\|[^|<>\n]{1,40}\|>", re.IGNORECASE)

Message = tuple[str, str]


def inert(text: str, tokenizer: Any) -> str:
    """A text without anything that the tokenizer or a chat template takes for a marker."""
    special = [token for token in tokenizer.all_special_tokens if token and token.strip()]
    special += [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special and str(t).strip()]
    known = sorted(set(special), key=len, reverse=True)
    before = None
    while before != text:  # what is left may join to a new marker
        before = text
        for token in known:
            text = text.replace(token, "")
        text = _MARKERS.sub("", text)
    return text.strip()


def render(tokenizer: Any, messages: Sequence[Message], opening: str = "") -> list[int]:
    """Tokens of a conversation up to where the reply begins, with the reply's opening.

    A template that knows no system role gets the system text at the head of the first user turn; a tokenizer without a
    template gets plain lines.
    """
    if getattr(tokenizer, "chat_template", None):
        try:
            text = _templated(tokenizer, messages)
        except (TemplateError, ValueError):
            text = _templated(tokenizer, _folded(messages))
        return list(tokenizer(text + opening, add_special_tokens=False)["input_ids"])
    lines = [f"{role.capitalize()}: {content}\n\n" for role, content in messages]
    return list(tokenizer("".join(lines) + "Assistant: " + opening)["input_ids"])


def _templated(tokenizer: Any, messages: Sequence[Message]) -> str:
    turns = [{"role": role, "content": content} for role, content in messages]
    return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))


def _folded(messages: Sequence[Message]) -> list[Message]:
    system = [content for role, content in messages if role == "system"]
    others = [message for message in messages if message[0] != "system"]
    role, content = others[0]
    return [(role, "\n\n".join([*system, content])), *others[1:]]
