"""RandomToken (section on attacks): fresh random tokens in every iteration, without looking at the victim.

The tokens are independent draws; the victim reads the text that they spell, often as other tokens, and that text is
what is scored and reported. The result is the first text that succeeds, else the last one; from the first success on
the record stands still. Every iteration counts as computed, so an early success earns no credit, but nothing is
forwarded once it is known.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.call import Call
from hardscale.attacks.codec import Codec
from hardscale.attacks.packing import RowBlock
from hardscale.attacks.places import Place, places
from hardscale.attacks.results import AttackResult, Record
from hardscale.attacks.victim import Scores, Victim
from hardscale.errors import AttackError
from hardscale.settings.attacks import AttackSettings

#: Iterations scored at once: few while most examples may still fall, more once the hard ones are left.
_FIRST_SPAN, _LONGEST_SPAN = 4, 64


@dataclass
class _RandomTokenState:
    """One example's attack; ``held`` is frozen once ``success`` is set."""

    example: int
    place: Place
    rng: random.Random
    record: Record
    held: tuple[str, list[int]] = ("", [])
    loss: float = float("nan")
    success: bool = False


@dataclass(frozen=True)
class _Draw:
    """One iteration's attack text in its prompt, whose last ``n_ending`` tokens are the target."""

    tokens: list[int]
    text: str
    prompt: list[int]
    reused: int
    n_ending: int


def run(settings: AttackSettings, call: Call) -> list[AttackResult]:
    """Attack every prompt with ``n_iterations`` texts; see :func:`hardscale.attacks.base.run_attack`.

    The texts of an example depend on the seed and its key alone: they are independent draws over examples too.
    """
    victim, codec = call.victim, call.codec
    heads = codec.encode_prompts([before for before, _ in call.prompts])
    victim.remember([head[: len(head) - codec.n_closing] for head in heads])
    states = []
    for i, ((before, after), key) in enumerate(zip(call.prompts, call.keys, strict=True)):
        counter = victim.flop_counter(i, call.shape)
        rng = random.Random(derive_seed(call.seed, "random_token", key))
        # As published, the text goes where it goes, whatever stands before it.
        place = places(codec, before, after)[0]
        states.append(_RandomTokenState(i, place, rng, Record(before, after, counter)))
    done, span = 0, _FIRST_SPAN
    while done < settings.n_iterations:
        span = min(span, settings.n_iterations - done)
        began = time.monotonic()
        draws = _draw(victim, codec, states, settings.n_attack_tokens, span)
        active = [state for state in states if not state.success]
        scored = _score(victim, active, draws)
        alive = _note(states, draws, scored)
        seconds = time.monotonic() - began
        for step, count in enumerate(alive, start=done + 1):
            call.note(step, count, seconds / span)
        done, span = done + span, min(2 * span, _LONGEST_SPAN)
    return [state.record.result() for state in states]


def _draw(
    victim: Victim, codec: Codec, states: Sequence[_RandomTokenState], n_tokens: int, span: int
) -> dict[int, list[_Draw]]:
    """The next ``span`` attack texts of every example; frozen ones too, whose length still counts."""
    tokens = [state.rng.choices(codec.allowed, k=n_tokens) for state in states for _ in range(span)]
    owners = [state for state in states for _ in range(span)]
    texts = [state.place.insert(text) for state, text in zip(owners, codec.spell(tokens), strict=True)]
    encoded = codec.encode_prompts([state.place.whole(text) for state, text in zip(owners, texts, strict=True)])
    endings = victim.endings_after([(s.example, s.place.whole(text)) for s, text in zip(owners, texts, strict=True)])
    draws: dict[int, list[_Draw]] = {state.example: [] for state in states}
    for state, ids, text, prompt, ending in zip(owners, tokens, texts, encoded, endings, strict=True):
        victim.check_total(state.example, len(prompt) + len(ending))
        if not prompt:
            raise AttackError(f"example {victim.names[state.example]}: the prompt has no tokens; leave it out")
        whole = prompt + ending
        # The text around a random string may be cut into other tokens than alone, so the stored prefix is compared.
        draws[state.example].append(_Draw(ids, text, whole, victim.cache.reusable(state.example, prompt), len(ending)))
    return draws


def _score(
    victim: Victim, states: Sequence[_RandomTokenState], draws: dict[int, list[_Draw]]
) -> dict[int, list[Scores]]:
    """Scores of every draw of these examples."""
    blocks = [
        RowBlock(state.example, torch.tensor([draw.prompt]), draw.reused, draw.n_ending)
        for state in states
        for draw in draws[state.example]
    ]
    scores: dict[int, list[Scores]] = {state.example: [] for state in states}
    for block, score in zip(blocks, victim.score(blocks), strict=True):
        scores[block.example].append(score)
    return scores


def _note(
    states: Sequence[_RandomTokenState], draws: dict[int, list[_Draw]], scored: dict[int, list[Scores]]
) -> list[int]:
    """Write the iterations into the records; returns how many examples had no success before each."""
    span = len(draws[states[0].example])
    alive = [0] * span
    for state in states:
        for step, draw in enumerate(draws[state.example]):
            if not state.success:
                score = scored[state.example][step]
                state.held = (draw.text, draw.tokens)
                state.loss, state.success = float(score.losses[0]), bool(score.successes[0])
                alive[step] += 1
            state.record.counter.forward(1, len(draw.prompt), draw.reused)
            state.record.close_iteration(*state.held, state.loss, state.success, 1)
    return alive
