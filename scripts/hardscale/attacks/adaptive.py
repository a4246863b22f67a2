"""Simple adaptive attack (after arXiv 2404.02151): a written template and random search over a suffix.

Every iteration replaces a block of neighboring tokens by random ones and keeps the text where the target becomes more
likely. A block that is read as other tokens than drawn is drawn again. The template is our own
(:mod:`hardscale.attacks.frames`). The search needs log-probabilities, no gradients.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.call import Call
from hardscale.attacks.candidates import initial_layout
from hardscale.attacks.chat_only import chat_requests, chat_victim
from hardscale.attacks.codec import Codec
from hardscale.attacks.frames import ADAPTIVE, framed
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.attacks.places import Layout, Place, laid, stands
from hardscale.attacks.reading import Reading, read, read_fitting
from hardscale.attacks.results import AttackResult, Record
from hardscale.attacks.starts import FIRST_TEXT, start_notes
from hardscale.settings.attacks import Adaptive

#: Blocks drawn at a time, and at most, for one that is read as itself.
_AT_ONCE, _MOST_DRAWS = 8, 64


@dataclass
class _AdaptiveState:
    """One example's search: the suffix held, its text as it was read, and the stream it is changed from."""

    example: int
    layout: Layout
    record: Record
    rng: random.Random
    tokens: list[int]
    held: tuple[str, list[int], Reading] | None = None
    n_scored: int = 0
    n_retokenized: int = 0

    @property
    def place(self) -> Place:
        """Where the suffix stands."""
        return self.layout.place


def run(settings: Adaptive, call: Call) -> list[AttackResult]:
    """Try ``n_iterations`` suffixes for every prompt; see :func:`hardscale.attacks.base.run_attack`.

    The first iteration scores the initial suffix. Losses never rise. A suffix is scored as its text is read; one that
    spells a special token, or is too long when read, is not tried (``n_evaluated`` 0). With the template the suffix
    ends the user's turn; without, it stands where ``prompts`` put it. ``notes`` has the ``retokenized_share`` of the
    scored texts whose tokens, read from the text, are not those searched over.

    Raises:
        AttackError: the victim is a classifier; with the template, there are no requests.
    """
    model, codec = chat_victim(settings.kind, call.victim), call.codec
    around = _around(settings, call) if settings.template else call.prompts
    layouts = [
        initial_layout(codec, before, after, FIRST_TEXT, settings.n_attack_tokens, _rng(call, "initial", key), name)
        for (before, after), key, name in zip(around, call.keys, model.names, strict=True)
    ]
    model.check_lengths([layout.n_tokens for layout in layouts])
    model.remember([layout.head for layout in layouts])
    states = []
    for i, (layout, key) in enumerate(zip(layouts, call.keys, strict=True)):
        record = Record(layout.before, layout.after, model.flop_counter(i, call.shape))
        states.append(_AdaptiveState(i, layout, record, _rng(call, "adaptive", key), list(layout.attack)))
    for iteration in range(1, settings.n_iterations + 1):
        began = time.monotonic()
        n_replaced = 0 if iteration == 1 else block_size(settings.n_replaced, iteration, settings.n_iterations)
        _step(model, codec, states, n_replaced)
        call.note(iteration, len(states), time.monotonic() - began)
    return [_result(state) for state in states]


def _rng(call: Call, role: str, key: int) -> random.Random:
    return random.Random(derive_seed(call.seed, role, key))


def _result(state: _AdaptiveState) -> AttackResult:
    notes = {"retokenized_share": state.n_retokenized / max(state.n_scored, 1), **start_notes(state.layout)}
    return replace(state.record.result(), notes=notes)


def block_size(first: int, iteration: int, n_iterations: int) -> int:
    """Tokens replaced in an iteration: ``first``, then half as many, and so on to 1, each for an equal share of all."""
    phases = first.bit_length()
    phase = (iteration - 1) * phases // n_iterations
    return max(first >> phase, 1)


def _around(settings: Adaptive, call: Call) -> list[tuple[str, str]]:
    """The template with each request and opening; the suffix ends the user's turn."""
    model, requests = chat_requests(settings.kind, call)
    openings = [text.strip() for text in model.targets]
    return [
        (request.before + framed(ADAPTIVE, request.text, opening), request.after)
        for request, opening in zip(requests, openings, strict=True)
    ]


def _step(model: LanguageVictim, codec: Codec, states: Sequence[_AdaptiveState], n_replaced: int) -> None:
    """One try for every example; the first one (``n_replaced`` 0) is the initial suffix."""
    tried = _drawn(codec, states, n_replaced)
    spelled = codec.spell(tried)
    texts = [state.place.insert(text) for state, text in zip(states, spelled, strict=True)]
    # A first suffix is always tried: it has to be scored as something.
    some = [i for i, state in enumerate(states) if state.held is None or not codec.holds_marker(texts[i])]
    score = read_fitting if n_replaced else read
    readings = score(model, codec, [(states[i].example, states[i].place.whole(texts[i])) for i in some])
    scored = [0] * len(states)
    for i, reading in zip(some, readings, strict=True):
        if reading is None:
            continue
        state, scored[i] = states[i], 1
        reading.pay(state.record.counter)
        state.n_scored += 1
        state.n_retokenized += not stands(codec, state.place, tried[i], reading.tokens)
        if state.held is None or reading.rank < state.held[2].rank:
            state.tokens, state.held = tried[i], (texts[i], tried[i], reading)
    for i, state in enumerate(states):
        assert state.held is not None
        text, tokens, reading = state.held
        state.record.close_iteration(text, tokens, reading.loss, reading.success, scored[i])


def _drawn(codec: Codec, states: Sequence[_AdaptiveState], n_replaced: int) -> list[list[int]]:
    """For every example the first block drawn whose text is read as its tokens; the last one where none is."""
    tried: list[list[int]] = [list(state.tokens) for state in states]
    waiting = list(range(len(states))) if n_replaced else []
    for _ in range(_MOST_DRAWS // _AT_ONCE):
        rows = [
            (i, _changed(states[i].tokens, n_replaced, codec.allowed, states[i].rng))
            for i in waiting
            for _ in range(_AT_ONCE)
        ]
        missing = dict.fromkeys(waiting)
        for (i, row), layout in zip(rows, laid(codec, [(states[i].place, row) for i, row in rows]), strict=True):
            if i in missing:
                tried[i] = row
                if layout is not None:
                    del missing[i]
        waiting = list(missing)
    return tried


def _changed(tokens: list[int], n_replaced: int, allowed: Sequence[int], rng: random.Random) -> list[int]:
    """The tokens with a block of ``n_replaced`` neighbors, anywhere, drawn anew."""
    n = min(n_replaced, len(tokens))
    start = rng.randrange(len(tokens) - n + 1)
    return [*tokens[:start], *rng.choices(allowed, k=n), *tokens[start + n :]]
