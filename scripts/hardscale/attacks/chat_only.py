"""The check that attacks on requests to chat models begin with."""

from __future__ import annotations

from collections.abc import Sequence

from hardscale.attacks.call import Call
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.attacks.results import Request
from hardscale.attacks.victim import Victim
from hardscale.errors import AttackError


def chat_victim(kind: str, victim: Victim) -> LanguageVictim:
    """The victim, where it is a language model.

    Raises:
        AttackError: it is a classifier.
    """
    if not isinstance(victim, LanguageVictim):
        raise AttackError(f"{kind}: found a classifier, attacks requests to chat models; use a task of kind behaviors")
    return victim


def chat_requests(kind: str, call: Call) -> tuple[LanguageVictim, Sequence[Request]]:
    """The victim and the requests made to it.

    Raises:
        AttackError: it is a classifier, or a language model without requests.
    """
    if not isinstance(call.victim, LanguageVictim) or call.requests is None:
        found = "prompts without requests" if isinstance(call.victim, LanguageVictim) else "a classifier"
        raise AttackError(f"{kind}: found {found}, attacks requests to chat models; use a task of kind behaviors")
    return call.victim, call.requests
