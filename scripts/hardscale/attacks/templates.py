"""Human-written frames around the request (:mod:`hardscale.attacks.frames`): no search, one frame an iteration."""

from __future__ import annotations

from collections.abc import Sequence

from hardscale.attacks.chat_only import chat_requests
from hardscale.attacks.codec import Codec
from hardscale.attacks.frames import FRAMES, framed
from hardscale.attacks.results import AttackResult, Callback, Options
from hardscale.attacks.try_texts import try_texts
from hardscale.attacks.victim import Victim
from hardscale.models.flops import ModelShape


def run(
    victim: Victim,
    codec: Codec,
    _prompts: Sequence[tuple[str, str]],
    _keys: Sequence[int],
    shape: ModelShape,
    options: Options,
    callback: Callback | None,
) -> list[AttackResult]:
    """Put every request into the first ``n_iterations`` frames, at most all there are, and keep the best.

    In the results ``text`` is the user's whole turn; ``notes`` has the loss and success of each frame by its number.

    Raises:
        AttackError: the victim is a classifier, or there are no requests.
    """
    model, requests = chat_requests("templates", victim, options)
    openings = [text.strip() for text in model.targets]
    texts = [
        [framed(frame, request.text, opening) for frame in FRAMES[: options.n_iterations]]
        for request, opening in zip(requests, openings, strict=True)
    ]
    around = [(request.before, request.after) for request in requests]
    return try_texts(model, codec, around, texts, shape, callback)
