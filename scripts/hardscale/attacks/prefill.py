"""Prefilling: the reply is begun with the first tokens of the opening aimed at, and the victim goes on from there.

It needs an interface that lets the user write the start of the reply, so it stands beside the attacks on the prompt.
"""

from __future__ import annotations

from dataclasses import replace

from hardscale.attacks.call import Call
from hardscale.attacks.chat_only import chat_victim
from hardscale.attacks.results import AttackResult
from hardscale.attacks.try_texts import try_texts
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.settings.attacks import Prefill


def run(settings: Prefill, call: Call) -> list[AttackResult]:
    """Begin every reply with at most ``n_prefill_tokens`` of its target, and score the rest of the target.

    One iteration. The last token of the target is never given away, so that something is left to be scored. In the
    results ``text`` is the beginning that was given, at the very end of ``prompt_text``; ``notes`` has ``n_prefilled``.

    Raises:
        AttackError: the victim is a classifier.
    """
    model = chat_victim(settings.kind, call.victim)
    tokens = PromptTokens(model.tokenizer)
    asked = [before + after for before, after in call.prompts]
    begun = [
        tokens.begin(prompt, target, min(settings.n_prefill_tokens, len(ending) - 1))
        for prompt, target, ending in zip(asked, model.targets, model.endings, strict=True)
    ]
    rest = [target[len(text) :] for target, text in zip(model.targets, begun, strict=True)]
    left = model.with_targets(rest, [prompt + text for prompt, text in zip(asked, begun, strict=True)])
    given = tokens.following(list(zip(asked, begun, strict=True)))
    results = try_texts(left, call, [(prompt, "") for prompt in asked], [[text] for text in begun])
    return [
        replace(result, notes={**result.notes, "n_prefilled": float(len(some))})
        for result, some in zip(results, given, strict=True)
    ]
