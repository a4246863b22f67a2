"""Simple adaptive attack (after arXiv 2404.02151): a written template and random search over a suffix.

Every iteration replaces a block of neighbouring tokens by random ones and keeps the text where the target becomes more
likely. The template is our own (:mod:`hardscale.attacks.frames`). The search needs log-probabilities, no gradients.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hardscale.attacks.chat_only import chat_requests, chat_victim
from hardscale.attacks.codec import Codec
from hardscale.attacks.frames import ADAPTIVE, framed
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.attacks.reading import Gap, Reading, gaps, read, read_fitting
from hardscale.attacks.results import AttackResult, Callback, Options, Record
from hardscale.attacks.victim import Victim
from hardscale.models.flops import ModelShape
from hardscale.seeds import derive_seed
from hardscale.settings.text_attacks import Adaptive


@dataclass
class _State:
    """One example's search: the suffix held, its text as it was read, and the stream it is changed from."""

    example: int
    gap: Gap
    record: Record
    rng: random.Random
    tokens: list[int]
    held: tuple[str, list[int], Reading] | None = None
    n_scored: int = 0
    n_retokenised: int = 0


def run(
    victim: Victim,
    codec: Codec,
    prompts: Sequence[tuple[str, str]],
    keys: Sequence[int],
    shape: ModelShape,
    options: Options,
    callback: Callback | None,
) -> list[AttackResult]:
    """Try ``n_iterations`` suffixes for every prompt; see :func:`hardscale.attacks.base.attack`.

    The first iteration scores the initial suffix. Losses never rise. A suffix is scored as its text is read; one that
    spells a special token, or is too long when read, is not tried (``n_evaluated`` 0). With the template the suffix
    ends the user's turn; without, it stands where ``prompts`` put it. ``notes`` has the ``retokenised_share`` of the
    scored texts whose tokens, read from the text, are not those searched over.

    Raises:
        AttackError: the victim is a classifier; with the template, there are no requests.
    """
    own = options.own or Adaptive(kind="adaptive")
    model = chat_victim("adaptive", victim)
    around = gaps(codec, _around(model, codec, options) if own.template else prompts)
    model.check_lengths([len(gap.head) + own.n_attack_tokens + len(gap.tail) for gap in around])
    model.remember([gap.head for gap in around])
    [start] = codec.encode_alone([options.initial_text * own.n_attack_tokens])
    states = []
    for i, (gap, key) in enumerate(zip(around, keys, strict=True)):
        ledger = model.ledger(i, shape)
        rng = random.Random(derive_seed(options.seed, "adaptive", key))
        first = start[: own.n_attack_tokens]
        first += rng.choices(codec.allowed, k=own.n_attack_tokens - len(first))
        states.append(_State(i, gap, Record(gap.before, gap.after, ledger), rng, first))
    for iteration in range(1, options.n_iterations + 1):
        began = time.monotonic()
        n_replaced = 0 if iteration == 1 else block_size(own.n_replaced, iteration, options.n_iterations)
        _step(model, codec, states, n_replaced)
        if callback:
            callback(iteration, len(states), time.monotonic() - began)
    return [
        replace(s.record.result(), notes={"retokenised_share": s.n_retokenised / max(s.n_scored, 1)}) for s in states
    ]


def block_size(first: int, iteration: int, n_iterations: int) -> int:
    """Tokens replaced in an iteration: ``first``, then half as many, and so on to 1, each for an equal share of all."""
    phases = first.bit_length()
    phase = (iteration - 1) * phases // n_iterations
    return max(first >> phase, 1)


def _around(model: LanguageVictim, codec: Codec, options: Options) -> list[tuple[str, str]]:
    """The template with each request and opening; the suffix ends the user's turn."""
    _, requests = chat_requests("adaptive", model, options)
    openings = codec.decode(model.endings)
    return [
        (request.before + framed(ADAPTIVE, request.text, opening), request.after)
        for request, opening in zip(requests, openings, strict=True)
    ]


def _step(model: LanguageVictim, codec: Codec, states: Sequence[_State], n_replaced: int) -> None:
    """One try for every example; the first one (``n_replaced`` 0) is the initial suffix."""
    tried = [_changed(state.tokens, n_replaced, codec.allowed, state.rng) for state in states]
    texts = codec.decode(tried)
    # A first suffix is always tried: it has to be scored as something.
    some = [i for i, state in enumerate(states) if state.held is None or not codec.holds_marker(texts[i])]
    score = read_fitting if n_replaced else read
    readings = score(model, codec, [(states[i].example, states[i].gap.whole(texts[i])) for i in some])
    scored = [0] * len(states)
    for i, reading in zip(some, readings, strict=True):
        if reading is None:
            continue
        state, scored[i] = states[i], 1
        reading.pay(state.record.ledger)
        state.n_scored += 1
        state.n_retokenised += not state.gap.keeps(codec, tried[i], reading.tokens)
        if state.held is None or reading.rank < state.held[2].rank:
            state.tokens, state.held = tried[i], (texts[i], tried[i], reading)
    for i, state in enumerate(states):
        assert state.held is not None
        text, tokens, reading = state.held
        state.record.close_iteration(text, tokens, reading.loss, reading.success, scored[i])


def _changed(tokens: list[int], n_replaced: int, allowed: Sequence[int], rng: random.Random) -> list[int]:
    """The tokens with a block of ``n_replaced`` neighbours, anywhere, drawn anew."""
    n = min(n_replaced, len(tokens))
    start = rng.randrange(len(tokens) - n + 1)
    return [*tokens[:start], *rng.choices(allowed, k=n), *tokens[start + n :]]
