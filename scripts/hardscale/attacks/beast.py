"""BEAST (arXiv 2402.15570): a beam search over what a language model would write after the prompt; no gradients.

An iteration adds a token. The sampler draws children of every beam from its own next-token distribution, without
replacement; the victim scores all of them, and the best are the next beams. A chat victim is its own sampler; for a
classifier, which has no next token, a small language model of its family proposes (appendix on attacks of arXiv
2407.18213). Beams are the sampler's tokens, but every score is that of the text they spell, as the victim reads it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from hardscale.attacks.codec import Codec
from hardscale.attacks.reading import Gap, Reading, gaps, read, read_fitting
from hardscale.attacks.results import AttackResult, Callback, Options, Record
from hardscale.attacks.sampler import Sampler, Wish
from hardscale.attacks.victim import Victim
from hardscale.models.flops import ModelShape
from hardscale.seeds import derive_seed
from hardscale.settings.text_attacks import Beast


@dataclass
class _State:
    """One example's attack: its beams, and the best text ever scored."""

    example: int
    key: int
    gap: Gap
    record: Record
    beams: list[list[int]] = field(default_factory=lambda: [[]])
    best: tuple[str, list[int], Reading] | None = None
    sampler_tokens: int = 0
    n_drawn: int = 0
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
    """Search ``n_iterations`` tokens for every prompt; see :func:`hardscale.attacks.base.attack`.

    The text held after an iteration is the one with the lowest loss so far (elitist), which may have fewer tokens.
    ``notes``: ``retokenised_share`` of the scored texts whose tokens, read from the text, are not those drawn;
    ``dropped_share`` of the drawn texts that were not scored, because they spell a special token or are too long when
    read; ``sampler_forward_tokens``, which enter ``forward_tokens`` in proportion to the sampler's parameters.

    Raises:
        AttackError: a classifier without a sampler, or a sampler with other tokens.
    """
    own = options.own or Beast(kind="beast")
    helpers = {} if own.sampler == "victim" else options.helpers
    sampler = Sampler(victim, codec, helpers, own.top_p)
    around = gaps(codec, prompts)
    victim.check_lengths([len(gap.head) + options.n_iterations + len(gap.tail) for gap in around])
    victim.remember([gap.head for gap in around])
    sampler.remember([gap.head for gap in around])
    states = []
    for i, (gap, key) in enumerate(zip(around, keys, strict=True)):
        ledger = victim.ledger(i, shape)
        sampler.pay_prefix(i, ledger)
        states.append(_State(i, key, gap, Record(gap.before, gap.after, ledger)))
    for iteration in range(1, options.n_iterations + 1):
        began = time.monotonic()
        _step(victim, codec, sampler, states, own, options.seed, iteration)
        if callback:
            callback(iteration, len(states), time.monotonic() - began)
    return [_result(state) for state in states]


def _step(
    victim: Victim, codec: Codec, sampler: Sampler, states: Sequence[_State], own: Beast, seed: int, iteration: int
) -> None:
    """Grow the beams of every example by a token."""
    n_children = own.beam if iteration == 1 else own.branching
    wishes = [
        Wish(
            state.example,
            torch.tensor([[*state.gap.head, *beam] for beam in state.beams]),
            n_children,
            [derive_seed(seed, "beast", state.key, iteration, row) for row in range(len(state.beams))],
        )
        for state in states
    ]
    drawn: list[tuple[_State, list[int]]] = []
    for state, wish, children in zip(states, wishes, sampler.propose(wishes), strict=True):
        state.sampler_tokens += sampler.pay(wish, state.record.ledger)
        grown = [[*beam, token] for beam, few in zip(state.beams, children, strict=True) for token in few]
        drawn += [(state, tokens) for tokens in grown]
        state.n_drawn += len(grown)
    texts = codec.decode([tokens for _, tokens in drawn])
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
        _select(codec, state, scored[state.example], own.beam)


def _select(codec: Codec, state: _State, scored: Sequence[tuple[str, list[int], Reading]], beam: int) -> None:
    """Keep the best candidates as beams, remember the best ever, and close the iteration."""
    for _, tokens, reading in scored:
        reading.pay(state.record.ledger)
        state.n_retokenised += not state.gap.keeps(codec, tokens, reading.tokens)
    state.n_scored += len(scored)
    ranked = sorted(scored, key=lambda one: one[2].rank)  # stable: equal losses keep the order of their draws
    if ranked:
        state.beams = [tokens for _, tokens, _ in ranked[:beam]]
        if state.best is None or ranked[0][2].rank < state.best[2].rank:
            state.best = ranked[0]
    assert state.best is not None
    text, tokens, reading = state.best
    state.record.close_iteration(text, tokens, reading.loss, reading.success, len(scored))


def _result(state: _State) -> AttackResult:
    notes = {
        "sampler_forward_tokens": float(state.sampler_tokens),
        "retokenised_share": state.n_retokenised / max(state.n_scored, 1),
        "dropped_share": 1.0 - state.n_scored / max(state.n_drawn, 1),
    }
    return replace(state.record.result(), notes=notes)
