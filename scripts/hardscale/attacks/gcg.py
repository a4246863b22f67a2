"""Greedy coordinate gradient (section on attacks): one token replaced at a time, guided by the gradient.

Each iteration takes the gradient of the loss at the one-hot attack tokens, draws candidates from the ``top_k`` tokens
of every position, drops those that are other tokens when read from text, and goes on from the candidate with the lowest
loss, even if the present text is better. What counts after an iteration is the text it ended with (``held: last``, as
on classifiers) or the best of all so far (``held: best``, as published for chat models). All examples move together:
one packed forward scores the candidates of many.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.call import Call
from hardscale.attacks.candidates import initial_layout, ranked_tokens, sample_replacements, surviving
from hardscale.attacks.codec import Codec
from hardscale.attacks.followed import score_texts
from hardscale.attacks.places import Layout
from hardscale.attacks.results import AttackResult, Record
from hardscale.attacks.starts import given_layout, start_notes
from hardscale.attacks.victim import Victim
from hardscale.models.parameters import whole_weight
from hardscale.settings.attacks import AttackSettings


@dataclass
class _GcgState:
    """One example's attack: the tokens held now, their loss, and the stream its candidates are drawn from."""

    example: int
    layout: Layout
    tokens: list[int]
    text: str
    rng: random.Random
    record: Record
    loss: float = float("nan")
    success: bool = False

    @property
    def prompt(self) -> str:
        """The whole prompt with the present text."""
        return self.around(self.text)

    def around(self, text: str) -> str:
        """The whole prompt with an attack text."""
        return self.layout.before + text + self.layout.after

    def whole(self, attack: torch.Tensor) -> torch.Tensor:
        """Whole prompts with these attack tokens, shape ``(n, length)``."""
        n = attack.shape[0]
        head, tail = (
            torch.tensor(side, dtype=torch.long).expand(n, -1) for side in (self.layout.head, self.layout.tail)
        )
        return torch.cat([head, attack, tail], dim=1)


def run(settings: AttackSettings, call: Call) -> list[AttackResult]:
    """Attack every prompt for ``n_iterations``; see :func:`hardscale.attacks.base.run_attack`.

    ``notes``: 1 at ``n_start_said``, ``n_start_separated``, ``n_start_built`` or ``n_start_given``: how the first text
    came about (:mod:`hardscale.attacks.starts`).
    """
    states = _start(settings, call)
    alive = states
    for iteration in range(1, settings.n_iterations + 1):
        if not alive:
            break
        began = time.monotonic()
        _step(call.victim, call.codec, alive, settings)
        call.note(iteration, len(alive), time.monotonic() - began)
        if settings.early_stop:
            alive = [state for state in alive if not state.record.successes[-1]]
    return [replace(state.record.result(), notes=start_notes(state.layout)) for state in states]


def _start(settings: AttackSettings, call: Call) -> list[_GcgState]:
    victim, codec = call.victim, call.codec
    layouts = []
    starts = call.starts or [None] * len(call.prompts)
    for (before, after), tokens, key, name in zip(call.prompts, starts, call.keys, victim.names, strict=True):
        rng = random.Random(_seed(settings, call.seed, "initial", key))
        known = given_layout(codec, before, after, tokens) if tokens is not None else None
        layouts.append(
            known or initial_layout(codec, before, after, settings.initial_text, settings.n_attack_tokens, rng, name)
        )
    victim.check_lengths([layout.n_tokens for layout in layouts])
    victim.remember([layout.head for layout in layouts])
    states = []
    for i, (layout, key) in enumerate(zip(layouts, call.keys, strict=True)):
        counter = victim.flop_counter(i, call.shape)
        record = Record(layout.before, layout.after, counter, keeps_best=settings.held == "best")
        rng = random.Random(_seed(settings, call.seed, "candidates", key))
        states.append(_GcgState(i, layout, list(layout.attack), layout.text, rng, record))
    if not settings.gradient:
        # Used only if no candidate survives an iteration. Part of the clean evaluation, so its FLOPs are not counted.
        scores = score_texts(victim, [(s.example, s.whole(torch.tensor([s.tokens])), [s.prompt]) for s in states])
        for state, score in zip(states, scores, strict=True):
            state.loss, state.success = float(score.losses[0]), bool(score.successes[0])
    return states


def _seed(settings: AttackSettings, seed: int, role: str, key: int) -> int:
    """Restarted for every example as published, or a stream of its own for each."""
    return derive_seed(seed, role, *([key] if settings.candidate_rng == "per_example" else []))


def _step(victim: Victim, codec: Codec, states: Sequence[_GcgState], settings: AttackSettings) -> None:
    """One iteration of every example."""
    pools = _ranked_pools(victim, codec, states, settings) if settings.gradient else _open_pools(codec, states)
    drawn = [
        sample_replacements(state.tokens, pool, settings.n_candidates, state.rng)
        for state, pool in zip(states, pools, strict=True)
    ]
    kept, texts = surviving(codec, [state.layout for state in states], [state.tokens for state in states], drawn)
    some = [i for i, part in enumerate(kept) if len(part)]
    scores = score_texts(
        victim,
        [(states[i].example, states[i].whole(kept[i]), [states[i].around(text) for text in texts[i]]) for i in some],
    )
    for i, score in zip(some, scores, strict=True):
        best = int(score.losses.argmin())
        state = states[i]
        state.tokens, state.text = kept[i][best].tolist(), texts[i][best]
        state.loss, state.success = float(score.losses[best]), bool(score.successes[best])
    for state, part in zip(states, kept, strict=True):
        state.record.counter.forward(len(part), victim.n_forwarded(state.example, state.layout.n_tokens))
        state.record.close_iteration(state.text, state.tokens, state.loss, state.success, len(part))


def _open_pools(codec: Codec, states: Sequence[_GcgState]) -> list[torch.Tensor]:
    """The control without gradients: every allowed token at every position."""
    allowed = torch.tensor(codec.allowed)
    return [allowed.expand(len(state.tokens), -1) for state in states]


def _ranked_pools(
    victim: Victim, codec: Codec, states: Sequence[_GcgState], settings: AttackSettings
) -> list[torch.Tensor]:
    """The ``top_k`` tokens of every position by gradient; notes each example's present loss on the way."""
    endings = victim.endings_after([(state.example, state.prompt) for state in states])
    blocks = [
        victim.block(state.example, state.whole(torch.tensor([state.tokens])), ending)
        for state, ending in zip(states, endings, strict=True)
    ]
    scores, gradients = victim.gradient(blocks)
    rows = []
    for state, block, score, gradient in zip(states, blocks, scores, gradients, strict=True):
        state.loss, state.success = float(score.losses[0]), bool(score.successes[0])
        first = len(state.layout.head) - block.reused
        rows.append(gradient[first : first + len(state.tokens)])
        state.record.counter.gradient(victim.n_forwarded(state.example, state.layout.n_tokens), len(state.tokens))
    with whole_weight(victim.embedding.weight) as embeddings:
        allowed = torch.zeros(embeddings.shape[0], dtype=torch.bool, device=embeddings.device)
        allowed[torch.tensor(codec.allowed, device=embeddings.device)] = True
        return list(ranked_tokens(torch.stack(rows), embeddings, allowed, settings.top_k))
