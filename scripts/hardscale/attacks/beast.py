"""BEAST (arXiv 2402.15570): a beam search over what a language model would write after the prompt; no gradients.

An iteration adds a token. The sampler draws children of every beam from its own next-token distribution, without
replacement; the victim scores all of them, and the best are the next beams. A chat victim is its own sampler; for a
classifier, which has no next token, a small language model of its family proposes (appendix on attacks of arXiv
2407.18213). Beams are the sampler's tokens, but every score is that of the text they spell, as the victim reads it.
With ``read_back`` children that the victim reads as other tokens are passed over: what is searched is what is scored.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.call import Call
from hardscale.attacks.codec import Codec
from hardscale.attacks.places import Place, gaps, laid, stands
from hardscale.attacks.reading import Reading, read, read_fitting
from hardscale.attacks.results import AttackResult, Record
from hardscale.attacks.sampler import Sampler, SamplingRequest
from hardscale.attacks.victim import Victim
from hardscale.settings.attacks import Beast

#: With ``read_back``: draws looked at, at most, for each child wanted, and for each at a time.
_MOST_DRAWS, _DRAWS_AT_ONCE = 16, 2


@dataclass
class _BeastState:
    """One example's attack: its beams, and the best text ever scored."""

    example: int
    key: int
    gap: Place
    record: Record
    beams: list[list[int]] = field(default_factory=lambda: [[]])
    best: tuple[str, list[int], Reading] | None = None
    sampler_tokens: int = 0
    n_drawn: int = 0
    n_scored: int = 0
    n_retokenized: int = 0


@dataclass
class _Family:
    """A beam and its children in the order of their draws.

    Attributes:
        n_seen: draws looked at.
        grown: the beam with each child that is kept.
    """

    state: _BeastState
    beam: list[int]
    draws: list[int]
    n_seen: int = 0
    grown: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keep_all(len(self.draws))

    def keep_all(self, n: int) -> None:
        """Keep the first ``n`` draws, whatever they are read as."""
        self.n_seen = min(n, len(self.draws))
        self.grown = [[*self.beam, token] for token in self.draws[:n]]


def run(settings: Beast, call: Call) -> list[AttackResult]:
    """Search ``n_iterations`` tokens for every prompt; see :func:`hardscale.attacks.base.run_attack`.

    The text held after an iteration is the one with the lowest loss so far (elitist), which may have fewer tokens.
    ``notes``: ``retokenized_share`` of the scored texts whose tokens, read from the text, are not those drawn;
    ``dropped_share`` of the drawn texts that were not scored, because they spell a special token, are too long when
    read or, with ``read_back``, are read as other tokens; ``sampler_forward_tokens``, which enter ``forward_tokens`` in
    proportion to the sampler's parameters.

    Raises:
        AttackError: a classifier without a sampler, or a sampler with other tokens.
    """
    victim, codec = call.victim, call.codec
    helpers = {} if settings.sampler == "victim" else call.helpers
    sampler = Sampler(victim, codec, helpers, settings.top_p)
    around = gaps(codec, call.prompts)
    victim.check_lengths([len(gap.head) + settings.n_iterations + len(gap.tail) for gap in around])
    victim.remember([gap.head for gap in around])
    sampler.remember([gap.head for gap in around])
    states = []
    for i, (gap, key) in enumerate(zip(around, call.keys, strict=True)):
        counter = victim.flop_counter(i, call.shape)
        sampler.pay_prefix(i, counter)
        states.append(_BeastState(i, key, gap, Record(gap.before, gap.after, counter)))
    for iteration in range(1, settings.n_iterations + 1):
        began = time.monotonic()
        _step(victim, codec, sampler, states, settings, call.seed, iteration)
        call.note(iteration, len(states), time.monotonic() - began)
    return [_result(state) for state in states]


def _step(
    victim: Victim,
    codec: Codec,
    sampler: Sampler,
    states: Sequence[_BeastState],
    settings: Beast,
    seed: int,
    iteration: int,
) -> None:
    """Grow the beams of every example by a token."""
    n_children = settings.beam if iteration == 1 else settings.branching
    requests = [
        SamplingRequest(
            state.example,
            torch.tensor([[*state.gap.head, *beam] for beam in state.beams]),
            n_children * (_MOST_DRAWS if settings.read_back else 1),
            [derive_seed(seed, "beast", state.key, iteration, row) for row in range(len(state.beams))],
        )
        for state in states
    ]
    families = []
    for state, request, children in zip(states, requests, sampler.propose(requests), strict=True):
        state.sampler_tokens += sampler.pay(request, state.record.counter)
        families += [_Family(state, beam, few) for beam, few in zip(state.beams, children, strict=True)]
    if settings.read_back:
        _pass_over(codec, families, n_children)
    drawn = [(family.state, tokens) for family in families for tokens in family.grown]
    for family in families:
        family.state.n_drawn += family.n_seen
    texts = [state.gap.insert(text) for (state, _), text in zip(drawn, codec.spell([t for _, t in drawn]), strict=True)]
    # At first something has to be held, whatever it spells.
    allowed = [i for i, text in enumerate(texts) if drawn[i][0].best is None or not codec.holds_marker(text)]
    score = read if iteration == 1 else read_fitting
    readings = score(victim, codec, [(drawn[i][0].example, drawn[i][0].gap.whole(texts[i])) for i in allowed])
    scored: dict[int, list[tuple[str, list[int], Reading]]] = {state.example: [] for state in states}
    for i, reading in zip(allowed, readings, strict=True):
        if reading is not None:
            state, tokens = drawn[i]
            scored[state.example].append((texts[i], tokens, reading))
    for state in states:
        _select(codec, state, scored[state.example], settings.beam)


def _pass_over(codec: Codec, families: Sequence[_Family], n_children: int) -> None:
    """Keep the first ``n_children`` draws of every beam that the victim reads as themselves, in few tokenizer calls.

    They are draws without replacement among such tokens. Where a first beam has none, the first draws are kept.
    """
    for family in families:
        family.keep_all(0)
    waiting = list(families)
    while waiting:
        parts = [family.draws[family.n_seen : family.n_seen + _DRAWS_AT_ONCE * n_children] for family in waiting]
        rows = [(f, [*f.beam, token]) for f, part in zip(waiting, parts, strict=True) for token in part]
        found = laid(codec, [(family.state.gap, row) for family, row in rows])
        for (family, row), layout in zip(rows, found, strict=True):
            if len(family.grown) < n_children:
                family.n_seen += 1
                family.grown += [row] if layout else []
        waiting = [f for f in waiting if len(f.grown) < n_children and f.n_seen < len(f.draws)]
    for family in families:
        if family.state.best is None and not family.grown:
            family.keep_all(n_children)


def _select(codec: Codec, state: _BeastState, scored: Sequence[tuple[str, list[int], Reading]], beam: int) -> None:
    """Keep the best candidates as beams, remember the best ever, and close the iteration."""
    for _, tokens, reading in scored:
        reading.pay(state.record.counter)
        state.n_retokenized += not stands(codec, state.gap, tokens, reading.tokens)
    state.n_scored += len(scored)
    ranked = sorted(scored, key=lambda one: one[2].rank)  # stable: equal losses keep the order of their draws
    if ranked:
        state.beams = [tokens for _, tokens, _ in ranked[:beam]]
        if state.best is None or ranked[0][2].rank < state.best[2].rank:
            state.best = ranked[0]
    assert state.best is not None
    text, tokens, reading = state.best
    state.record.close_iteration(text, tokens, reading.loss, reading.success, len(scored))


def _result(state: _BeastState) -> AttackResult:
    notes = {
        "sampler_forward_tokens": float(state.sampler_tokens),
        "retokenized_share": state.n_retokenized / max(state.n_scored, 1),
        "dropped_share": 1.0 - state.n_scored / max(state.n_drawn, 1),
    }
    return replace(state.record.result(), notes=notes)
