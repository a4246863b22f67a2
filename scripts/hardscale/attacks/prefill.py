"""Prefilling: the reply is begun with the first tokens of the opening aimed at, and the victim goes on from there.

It needs an interface that lets the user write the start of the reply, so it stands beside the attacks on the prompt.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from hardscale.attacks.chat_only import chat_victim
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult, Callback, Options
from hardscale.attacks.try_texts import try_texts
from hardscale.attacks.victim import Victim
from hardscale.models.flops import ModelShape
from hardscale.settings.text_attacks import Prefill


def run(
    victim: Victim,
    codec: Codec,
    prompts: Sequence[tuple[str, str]],
    _keys: Sequence[int],
    shape: ModelShape,
    options: Options,
    callback: Callback | None,
) -> list[AttackResult]:
    """Begin every reply with at most ``n_prefill_tokens`` of its target, and score the rest of the target.

    One iteration. The last token of the target is never given away, so that something is left to be scored. In the
    results ``text`` is the beginning that was given, at the very end of ``prompt_text``; ``notes`` has ``n_prefilled``.

    Raises:
        AttackError: the victim is a classifier.
    """
    own = options.own or Prefill(kind="prefill")
    model = copy.copy(chat_victim("prefill", victim))
    given = [min(own.n_prefill_tokens, len(tokens) - 1) for tokens in model.endings]
    begun = codec.decode([tokens[:n] for tokens, n in zip(model.endings, given, strict=True)])
    model.endings = [tokens[n:] for tokens, n in zip(model.endings, given, strict=True)]
    model.head_products = [len(tokens) * model.n_embeddings for tokens in model.endings]
    around = [(before + after, "") for before, after in prompts]
    results = try_texts(model, codec, around, [[text] for text in begun], shape, callback)
    return [
        replace(result, notes={**result.notes, "n_prefilled": float(n)})
        for result, n in zip(results, given, strict=True)
    ]
