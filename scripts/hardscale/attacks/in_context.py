"""In-context attack: other requests, each answered with its opening, stand as a transcript before the question.

The transcript is text inside the user's one turn, so it means the same under every chat template.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.call import Call
from hardscale.attacks.chat_only import chat_requests
from hardscale.attacks.codec import Codec
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.attacks.results import AttackResult, Request
from hardscale.attacks.try_texts import try_texts
from hardscale.errors import AttackError
from hardscale.models.window import window
from hardscale.settings.attacks import InContext

_ASKED, _ANSWERED = "Question: ", "\nAnswer:"

Shot = tuple[str, str]


def run(settings: InContext, call: Call) -> list[AttackResult]:
    """Draw earlier turns for every request, anew in each iteration, and keep the best.

    An example's draw depends on the seed, its key and ``call.known``, not on the examples beside it. In the results
    ``text`` is the user's whole turn; ``notes`` has the loss and success of each draw and how many turns were shown.

    Raises:
        AttackError: the victim is a classifier, there are no requests, or no other request can be shown.
    """
    model, requests = chat_requests(settings.kind, call)
    texts: list[list[str]] = []
    shown: list[dict[str, float]] = []
    for example, (request, key) in enumerate(zip(requests, call.keys, strict=True)):
        pool = others(request.text, call.known)
        if not pool:
            raise AttackError(f"example {model.names[example]}: no other request to show; give `known` or more prompts")
        drawn = []
        for iteration in range(1, settings.n_iterations + 1):
            rng = random.Random(derive_seed(call.seed, "in_context", key, iteration))
            drawn.append(
                _fitting(model, call.codec, example, request, rng.sample(pool, min(settings.shots, len(pool))))
            )
        texts.append([transcript(shots, request.text) for shots in drawn])
        shown.append({f"n_shots_{i}": float(len(shots)) for i, shots in enumerate(drawn, start=1)})
    around = [(request.before, request.after) for request in requests]
    results = try_texts(model, call, around, texts)
    return [replace(result, notes={**result.notes, **note}) for result, note in zip(results, shown, strict=True)]


def others(text: str, shots: Sequence[Shot]) -> list[Shot]:
    """The shots whose request is another one, each request once, in order."""
    known = {_plain(text)}
    found = []
    for asked, answer in shots:
        if _plain(asked) not in known:
            known.add(_plain(asked))
            found.append((asked, answer))
    return found


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def transcript(shots: Sequence[Shot], text: str) -> str:
    """The user's turn: answered questions, then the one that is left open."""
    turns = [f"{_ASKED}{asked}{_ANSWERED} {answer}" for asked, answer in shots]
    return "\n\n".join([*turns, f"{_ASKED}{text}{_ANSWERED}"])


def _fitting(model: LanguageVictim, codec: Codec, example: int, request: Request, shots: list[Shot]) -> list[Shot]:
    """The shots without so many of the first that the prompt is too long for the model."""
    limit = window(model.model)
    while shots:
        [tokens] = codec.encode_prompts([request.before + transcript(shots, request.text) + request.after])
        if model.n_forwarded(example, len(tokens)) <= limit:
            break
        shots = shots[1:]
    return shots
