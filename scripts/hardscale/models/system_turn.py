"""The system turn that a study's system prompt makes, by what a chat template does with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hardscale.errors import ModelError
from hardscale.models.rendering import Message

_SYSTEM = "Sentinel  <of> the\n\n system's é words"

#: A conversation as a template writes it, up to where a reply begins.
Render = Callable[[Sequence[Message]], str]


def system_turn(render: Render, prompt: str | None, user: str) -> list[Message] | None:
    """The system turn to give: none for the template's default, and none for ``""`` where there is no default.

    Args:
        render: of the template.
        prompt: of the study.
        user: words that no template holds.

    Returns:
        no or one turn; None where the template drops or changes the prompt.

    Raises:
        ModelError: the template refuses it.
    """
    if prompt is None:
        return []
    turn = [("user", user)]
    if prompt == "":
        return [("system", "")] if _has_default(render, turn) else []
    given = render([("system", _SYSTEM), *turn])
    kept = given.count(_SYSTEM) == 1 and render([("system", prompt), *turn]) == given.replace(_SYSTEM, prompt)
    return [("system", prompt)] if kept else None


def _has_default(render: Render, turn: list[Message]) -> bool:
    """Whether the template writes, where no system turn is given, what it would write of one."""
    try:
        given = render([("system", _SYSTEM), *turn])
    except ModelError:
        return False
    before, found, after = given.partition(_SYSTEM)
    plain = render(turn)
    fits = plain.startswith(before) and plain.endswith(after) and len(plain) > len(before) + len(after)
    return bool(found) and fits
