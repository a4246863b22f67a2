"""Human-written frames around the request (:mod:`hardscale.attacks.frames`): no search, one frame an iteration."""

from __future__ import annotations

from hardscale.attacks.call import Call
from hardscale.attacks.chat_only import chat_requests
from hardscale.attacks.frames import FRAMES, framed
from hardscale.attacks.results import AttackResult
from hardscale.attacks.try_texts import try_texts
from hardscale.settings.attacks import Templates


def run(settings: Templates, call: Call) -> list[AttackResult]:
    """Put every request into the first ``n_iterations`` frames and keep the best.

    In the results ``text`` is the user's whole turn; ``notes`` has the loss and success of each frame by its number.

    Raises:
        AttackError: the victim is a classifier, or there are no requests.
    """
    model, requests = chat_requests(settings.kind, call)
    openings = [text.strip() for text in model.targets]
    texts = [
        [framed(frame, request.text, opening) for frame in FRAMES[: settings.n_iterations]]
        for request, opening in zip(requests, openings, strict=True)
    ]
    around = [(request.before, request.after) for request in requests]
    return try_texts(model, call, around, texts)
