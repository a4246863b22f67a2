"""Direct request: the behavior as it is. One forward says how far the victim is from the opening aimed at."""

from __future__ import annotations

from collections.abc import Sequence

from hardscale.attacks.chat_only import chat_victim
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult, Callback, Options
from hardscale.attacks.try_texts import try_texts
from hardscale.attacks.victim import Victim
from hardscale.models.flops import ModelShape


def run(
    victim: Victim,
    codec: Codec,
    prompts: Sequence[tuple[str, str]],
    _keys: Sequence[int],
    shape: ModelShape,
    _options: Options,
    callback: Callback | None,
) -> list[AttackResult]:
    """Score every prompt with an empty attack text: a single iteration, however many are asked for.

    Raises:
        AttackError: the victim is a classifier.
    """
    return try_texts(chat_victim("direct", victim), codec, prompts, [[""]] * len(prompts), shape, callback)
