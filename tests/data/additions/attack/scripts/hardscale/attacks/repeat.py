"""Repetition: one word written again and again where attacks write. An iteration adds one."""

from __future__ import annotations

from hardscale.attacks.call import Call
from hardscale.attacks.results import AttackResult
from hardscale.attacks.try_texts import try_texts
from hardscale.settings.attacks import Repeat


def run(settings: Repeat, call: Call) -> list[AttackResult]:
    """Score the word once, twice and so on, and keep the best; see :func:`hardscale.attacks.base.run_attack`."""
    texts = [f" {settings.word}" * n for n in range(1, settings.n_iterations + 1)]
    return try_texts(call.victim, call, call.prompts, [texts] * len(call.prompts))
