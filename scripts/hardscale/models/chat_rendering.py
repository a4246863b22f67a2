"""Conversations as a tokenizer's chat template writes them: the one place where they are rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hardscale.models.chat_templates import chosen_template
from hardscale.models.rendering import render

#: Templates that write today's date would differ from day to day.
_DATE = "26 Jul 2024"
_DATE_MACRO = "{%- macro strftime_now(format) -%}" + _DATE + "{%- endmacro -%}"

Message = tuple[str, str]


def rendered(tokenizer: Any, turns: Sequence[Message], reply: bool) -> str:
    """A conversation as the tokenizer's template writes it, with the special tokens that it writes.

    Args:
        tokenizer: with a chat template.
        turns: (role, content) pairs.
        reply: whether it goes on to where a reply begins.

    Raises:
        ModelError: the tokenizer has no template, or several without a default.
        RenderingError: the template refuses these turns, or takes more than it may.
    """
    source = chosen_template(tokenizer.chat_template, tokenizer.name_or_path or type(tokenizer).__name__)
    messages = [{"role": role, "content": content} for role, content in turns]
    variables = {**tokenizer.special_tokens_map, "date_string": _DATE}
    return render(_DATE_MACRO + source if "strftime_now" in source else source, messages, reply, variables)
