"""Conversations as tokens, and texts of one model that go into the prompt of another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hardscale.models.prompt_tokens import PromptTokens
from hardscale.models.rendering import Message as Message
from hardscale.models.rendering import RenderingError, rendered

#: Markers of roles and instructions that templates write as ordinary text.
_MARKERS = re.compile(r"\[/?INST\]|<</?SYS>>|<\|[^|<>\n]{1,40}\|>", re.IGNORECASE)

#: Words that no template holds: what stands before them is the template's.
_ANSWER = "Sentinel of the reply"


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

    They are those of the rendered text with one BOS, where the tokenizer or the template has it, and with what the
    template writes between its generation prompt and an answer. A template that knows no system role gets the system
    text at the head of the first user turn; a tokenizer without a template gets plain lines.
    """
    if getattr(tokenizer, "chat_template", None):
        try:
            text = _templated(tokenizer, messages, opening)
        except RenderingError:
            text = _templated(tokenizer, _folded(messages), opening)
    else:
        lines = [f"{role.capitalize()}: {content}\n\n" for role, content in messages]
        # A word has its space before it in most vocabularies.
        text = "".join(lines) + (f"Assistant: {opening}" if opening else "Assistant:")
    return PromptTokens(tokenizer).encode(text)[0]


def _templated(tokenizer: Any, messages: Sequence[Message], opening: str) -> str:
    prompt = rendered(tokenizer, messages, reply=True)
    whole = rendered(tokenizer, [*messages, ("assistant", _ANSWER)], reply=False)
    lead = whole.removeprefix(prompt).partition(_ANSWER)[0] if whole.startswith(prompt) and _ANSWER in whole else ""
    # White space before an answer is the answer's, which begins with the opening.
    return prompt + (lead + opening if opening else lead if lead.strip() else "")


def _folded(messages: Sequence[Message]) -> list[Message]:
    system = [content for role, content in messages if role == "system"]
    others = [message for message in messages if message[0] != "system"]
    role, content = others[0]
    return [(role, "\n\n".join([*system, content])), *others[1:]]
