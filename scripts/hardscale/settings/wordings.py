"""Words of others that a study uses: where they are found, never the words themselves.

Judges and attacks are published with prompts that are not this repository's to copy. A study names the file that holds
them, and :mod:`hardscale.tasks.wordings` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import Field

from hardscale.settings.blocks import Settings
from hardscale.settings.bounds import Line

#: What published prompts call the places of a judge's texts.
BEHAVIOR = ("behavior", "forbidden_prompt")
COMPLETION = ("completion", "generation", "response")
CONTEXT = ("context", "context_str")
#: ... and those of PAIR's judge.
GOAL = ("goal",)
PROMPT = ("prompt", "attack_prompt")
ANSWER = ("response", "target_response", "answer")

#: ``path``, ``path.json#key.key``, or ``path.py#NAME.key``: a whole file, or one text in it.
Source = Line


class JudgeForms(Settings):
    """The forms of a judge's prompt."""

    standard: Source = Field(description="For behaviors without a context.")
    contextual: Source | None = Field(None, description="For behaviors with a context; holds {context} as well.")
    system: Source | None = Field(None, description="rubric: its system prompt.")


class RatingForms(Settings):
    """The two parts of what PAIR's judge is told."""

    system: Source = Field(description="Its system prompt; {goal} where it names the goal.")
    user: Source = Field(description="What it is asked: {prompt} or {attack_prompt}, {response} or {target_response}.")


class Named(NamedTuple):
    """A text that a study names.

    Attributes:
        key: its place in the study, for messages.
        source: as the study gives it.
        packaged: whether ``source`` is ``package:path`` in an installed package; else a path, or one below data.root.
        whole: whether it is a whole file, of whatever form.
    """

    key: str
    source: str
    packaged: bool = False
    whole: bool = False


def named(key: str, given: str | Settings | None, packaged: bool = False) -> Iterator[Named]:
    """The texts that a key names, by itself or in parts."""
    if isinstance(given, str):
        yield Named(key, given, packaged)
    elif given is not None:
        for part, source in given:
            if source is not None:
                yield Named(f"{key}.{part}", source, packaged)
