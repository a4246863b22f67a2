"""Direct request: the behavior as it is. One forward says how far the victim is from the opening aimed at."""

from __future__ import annotations

from hardscale.attacks.call import Call
from hardscale.attacks.chat_only import chat_victim
from hardscale.attacks.results import AttackResult
from hardscale.attacks.try_texts import try_texts
from hardscale.settings.attacks import Direct


def run(settings: Direct, call: Call) -> list[AttackResult]:
    """Score every prompt with an empty attack text: a single iteration.

    Raises:
        AttackError: the victim is a classifier.
    """
    return try_texts(chat_victim(settings.kind, call.victim), call, call.prompts, [[""]] * len(call.prompts))
