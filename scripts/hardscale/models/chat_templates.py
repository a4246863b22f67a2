"""Choose and check a tokenizer's chat template. No torch and no transformers here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jinja2

from hardscale.errors import ModelError
from hardscale.models.model_config import read_object
from hardscale.models.render_worker import environment
from hardscale.untrusted import guarded

TEMPLATE_FILE = "chat_template.jinja"
#: Longer templates are no templates of conversations.
LONGEST_TEMPLATE = 256 * 1024
#: Where a prompt ends behind one of these, the reply goes on within what nobody is meant to read.
_OPEN_REASONING = ("<think>", "<thinking>", "<|begin_of_thought|>", "<reasoning>", "[THINK]", "<seed:think>")


def chosen_template(templates: Any, name: str) -> str:
    """The one template of a tokenizer: the only one, or the one called default.

    Args:
        templates: a tokenizer's ``chat_template``: a text, texts by name, or a list of names and texts.
        name: of the tokenizer, for errors.

    Raises:
        ModelError: none, several without a default, or no text.
    """
    if isinstance(templates, list) and all(isinstance(one, dict) for one in templates):
        templates = {one.get("name"): one.get("template") for one in templates}
    if isinstance(templates, dict) and templates:
        if len(templates) > 1 and "default" not in templates:
            names = ", ".join(sorted(guarded.shown(str(key)) for key in templates))
            raise ModelError(
                f"{name}: the tokenizer has {len(templates)} chat templates ({names}) and none is called default; save "
                f"the one to use as {TEMPLATE_FILE} in the model's folder"
            )
        templates = templates.get("default", next(iter(templates.values())))
    if not templates:
        raise ModelError(f"{name}: the tokenizer has no chat template; use a chat model, or add {TEMPLATE_FILE}")
    if not isinstance(templates, str):
        raise ModelError(
            f"{name}: its chat template is a {type(templates).__name__}, allowed is a text; save the one to use as "
            f"{TEMPLATE_FILE} in the model's folder"
        )
    if len(templates) > LONGEST_TEMPLATE:
        raise ModelError(
            f"{name}: its chat template has {len(templates):,} characters, allowed are {LONGEST_TEMPLATE:,}; use a "
            "template of conversations alone"
        )
    return templates


def template_problem(folder: Path) -> str | None:
    """What is wrong with the chat template of a model folder; None when nothing is known to be."""
    file, shown = folder / TEMPLATE_FILE, guarded.shown(folder)
    try:
        if os.path.lexists(file):
            templates: Any = guarded.read_text(
                file, "a chat template", max_bytes=4 * LONGEST_TEMPLATE, error=ModelError
            )
        else:
            path = folder / "tokenizer_config.json"
            config = read_object(path, "a tokenizer's settings") if os.path.lexists(path) else {}
            templates = config.get("chat_template")
        check_syntax(chosen_template(templates, shown), shown)
    except ModelError as error:
        return str(error)
    return None


def check_syntax(template: str, name: str) -> None:
    """Whether a template can be read as one; nothing of it is run.

    Raises:
        ModelError: it cannot.
    """
    try:
        environment().parse(template)
    except (jinja2.TemplateError, RecursionError, ValueError) as error:
        line = getattr(error, "lineno", None)
        place = f" (line {line})" if line else ""
        raise ModelError(f"{name}: its chat template is no Jinja template{place}; fix {TEMPLATE_FILE}") from error


def open_reasoning(prompt: str) -> str | None:
    """The mark of a reasoning block that a rendered prompt ends inside of; None where it ends where a reply begins.

    Args:
        prompt: a conversation up to where the reply begins.
    """
    end = prompt.rstrip()
    return next((mark for mark in _OPEN_REASONING if end.endswith(mark)), None)


def lost_reasoning_problem(prompt: str, name: str) -> str | None:
    """Why a template whose prompt has a reasoning block that its conversations lack cannot be used; None without."""
    mark = next((mark for mark in _OPEN_REASONING if mark in prompt), None)
    if mark is None:
        return None
    return (
        f"{name}: the template puts a reasoning block ({mark}) into its prompt that the conversations it writes lack; "
        f"answers would not follow it; take it out of {TEMPLATE_FILE}, or use a model that replies without"
    )


def reasoning_problem(prompt: str, name: str) -> str | None:
    """Why a template that opens a reasoning block before each reply cannot be used; None where it opens none."""
    mark = open_reasoning(prompt)
    if mark is None:
        return None
    return (
        f"{name}: the template opens a reasoning block ({mark}) before every reply, so that an opening aimed at would "
        f"be part of the reasoning; take it out of {TEMPLATE_FILE}, or use a model that replies without"
    )
