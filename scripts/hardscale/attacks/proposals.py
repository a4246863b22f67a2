"""What PAIR's attackers are asked and what they answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hardscale.attacks.talker import Answer


@dataclass(frozen=True)
class Proposal:
    """A prompt to try.

    Attributes:
        prompt: the whole text of the user's turn.
        improvement: what the attacker says it changed.
        parts: which pieces a grammar made it of; empty otherwise.
        n_lenient: replies of a model that were read although they were not the JSON asked for (0 or 1).
        n_invalid: replies from which nothing could be read.
        n_fallback: 1 where the goal itself stands in for a proposal.
        answers: all replies of a model, for their cost.
    """

    prompt: str
    improvement: str = ""
    parts: tuple[int, ...] = ()
    n_lenient: int = 0
    n_invalid: int = 0
    n_fallback: int = 0
    answers: tuple[Answer, ...] = ()


class Turn(NamedTuple):
    """A round of one stream: what was tried, what the target answered, and the judge's score from 1 to 10."""

    proposal: Proposal
    answer: str
    score: int


@dataclass(frozen=True)
class Ask:
    """What an attacker is asked for.

    Attributes:
        goal: the request that the target should carry out.
        target: the opening wanted of its reply.
        history: the last rounds of the stream, oldest first.
        stream: number of the stream.
        seed: of this stream's random choices in this round.
    """

    goal: str
    target: str
    history: tuple[Turn, ...]
    stream: int
    seed: int


class Attacker(Protocol):
    """Proposes prompts; one answer depends on its ask alone, whatever is asked beside it."""

    def propose(self, asks: Sequence[Ask]) -> list[Proposal]:
        """One proposal for each ask, always: where there is none, the goal itself."""
        ...


_PROMPT = re.compile(r"""["'“”]?prompt["'“”]?\s*[:=]\s*["'“”]?(?P<text>.*)""", re.IGNORECASE | re.DOTALL)
#: Where the text of a prompt ends in something that is nearly JSON.
_END = re.compile(r"""["”']\s*(?:\}|,\s*["'“]?\w+["'”]?\s*:|```|$)|\}\s*$|```""")
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\'": "'", "\\t": "\t", "\\\\": "\\"}


def read_strictly(text: str) -> tuple[str, str] | None:
    """Improvement and prompt of a JSON object at the head of a text, None if there is no such object."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    improvement, prompt = found.get("improvement"), found.get("prompt")
    if not isinstance(prompt, str) or not isinstance(improvement, str) or not prompt.strip():
        return None
    return improvement.strip(), prompt.strip()


def read_leniently(text: str) -> tuple[str, str] | None:
    """Improvement and prompt from something that is nearly such an object: other quotes, line breaks, no end."""
    found = _PROMPT.search(text)
    if not found:
        return None
    prompt = found["text"]
    end = _END.search(prompt)
    prompt = prompt[: end.start()] if end else prompt
    prompt = re.sub(r"""\\[n"'t\\]""", lambda match: _ESCAPES[match.group()], prompt).strip()
    return ("", prompt) if any(character.isalnum() for character in prompt) else None
