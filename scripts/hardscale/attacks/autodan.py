"""AutoDAN: a genetic search over fluent prefixes of a request (arXiv 2310.04451).

Every iteration scores a population of prefixes by the victim's loss on the target and breeds the next one from it. The
first iteration scores the pool as it is, so its loss and success are what the pool reaches without any search. What is
held is the best prefix of all iterations so far.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.autodan_words import (
    ModelMutator,
    Mutator,
    Prefix,
    RuleMutator,
    Synonyms,
    crossover,
    exchange,
    spin,
    word_scores,
)
from hardscale.attacks.call import Call
from hardscale.attacks.chat_generator import Answer, ChatGenerator, charge
from hardscale.attacks.chat_only import chat_requests
from hardscale.attacks.codec import Codec
from hardscale.attacks.prefixes import COMMON, OWN_POOL, PrefixPool, first_population, read_pool
from hardscale.attacks.reading import Reading, read
from hardscale.attacks.results import AttackResult, Record, Request
from hardscale.attacks.victim import Victim
from hardscale.errors import AttackError
from hardscale.models.window import window
from hardscale.settings.attacks import AutoDan

#: Between a prefix and the request.
_GAP = "\n\n"


@dataclass
class _AutodanState:
    """One example's attack; ``known`` are the last population's prefixes as the victim read them."""

    example: int
    request: Request
    search: Search
    record: Record
    known: dict[Prefix, Reading] = field(default_factory=dict)
    best: Reading | None = None
    held: tuple[str, list[int]] = ("", [])
    waited: int = 0
    notes: dict[str, float] = field(default_factory=dict)

    def prompt(self, prefix: Prefix) -> str:
        """The whole prompt with a prefix."""
        return self.request.before + " ".join(prefix) + _GAP + self.request.text + self.request.after


def run(settings: AutoDan, call: Call) -> list[AttackResult]:
    """Attack every request, with the helper ``mutator`` if set so; see :func:`hardscale.attacks.base.run_attack`.

    Raises:
        AttackError: a classifier, a helper that is missing, or a request that does not fit with one sentence.
    """
    victim, requests = chat_requests(settings.kind, call)
    codec = call.codec
    pool = read_pool(call.texts["pool"]) if "pool" in call.texts else OWN_POOL
    mutator: Mutator = RuleMutator(pool.sentences)
    if settings.mutator != "rules":
        if "mutator" not in call.helpers:
            raise AttackError("autodan: no model given as mutator; give helpers['mutator'], or set mutator: rules")
        mutator = ModelMutator(ChatGenerator(call.helpers["mutator"], victim.model), victim.tokenizer, pool.sentences)
    synonyms = Synonyms(victim, codec, never=COMMON) if settings.hierarchical else None
    states = alive = _start(call, requests, settings, pool)
    for iteration in range(1, settings.n_iterations + 1):
        if not alive:
            break
        began = time.monotonic()
        if iteration > 1:
            next_populations([state.search for state in alive], iteration - 2, settings, synonyms, mutator)
            for state in alive:
                charge(state.record.counter, state.search.answers)
        counts = _score(victim, codec, alive)
        for state, count in zip(alive, counts, strict=True):
            _close(codec, state, count)
        call.note(iteration, len(alive), time.monotonic() - began)
        alive = [state for state in alive if not _is_left(state, settings.patience)]
    return [_result(state) for state in states]


def _start(call: Call, requests: Sequence[Request], settings: AutoDan, pool: PrefixPool) -> list[_AutodanState]:
    call.victim.remember(call.codec.encode_prompts([request.before for request in requests]))
    # One pool for all examples, so that its success rate is a number about the pool.
    first = first_population(settings.population, random.Random(derive_seed(call.seed, "autodan", "pool")), pool)
    states = []
    for i, (request, key) in enumerate(zip(requests, call.keys, strict=True)):
        counter = call.victim.flop_counter(i, call.shape)
        search = Search(random.Random(derive_seed(call.seed, "autodan", key)), list(first))
        record = Record(request.before, request.text + request.after, counter)
        states.append(_AutodanState(i, request, search, record, notes={"pool_sha256": pool.number, "n_trimmed": 0}))
    return states


def _score(victim: Victim, codec: Codec, states: Sequence[_AutodanState]) -> list[int]:
    """Losses of all populations; prefixes that the last population had are not scored again. Returns how many were."""
    _trim(victim, codec, states)
    jobs = [
        (state, prefix)
        for state in states
        for prefix in dict.fromkeys(state.search.population)
        if prefix not in state.known
    ]
    prompts = [(state.example, state.prompt(prefix)) for state, prefix in jobs]
    for (state, prefix), reading in zip(jobs, read(victim, codec, prompts), strict=True):
        reading.pay(state.record.counter)
        state.known[prefix] = reading
    for state in states:
        state.known = {prefix: state.known[prefix] for prefix in state.search.population}
        state.search.losses = [state.known[prefix].rank for prefix in state.search.population]
    return [sum(other is state for other, _ in jobs) for state in states]


def _trim(victim: Victim, codec: Codec, states: Sequence[_AutodanState]) -> None:
    """Drop last sentences of prefixes with which a prompt would not fit the victim; at least one is left."""
    limit = window(victim.model)
    waiting = [(state, i) for state in states for i in range(len(state.search.population))]
    while waiting:
        encoded = codec.encode_prompts([state.prompt(state.search.population[i]) for state, i in waiting])
        long = [
            (state, i)
            for (state, i), ids in zip(waiting, encoded, strict=True)
            if victim.n_forwarded(state.example, len(ids)) > limit and len(state.search.population[i]) > 1
        ]
        for state, i in long:
            state.search.population[i] = state.search.population[i][:-1]
            state.notes["n_trimmed"] += 1
        waiting = long


def _close(codec: Codec, state: _AutodanState, n_evaluated: int) -> None:
    """Hold the best prefix so far and note the iteration."""
    first = state.best is None
    prefix = state.search.population[state.search.ranked()[0]]
    found = state.known[prefix]
    if state.best is None or found.rank < state.best.rank:
        state.best, state.waited = found, 0
        text = " ".join(prefix) + _GAP
        state.held = (text, codec.inserted(state.request.before, text, state.request.text + state.request.after))
    else:
        state.waited += 1
    if first:
        fallen = [state.known[prefix].success for prefix in state.search.population]
        state.notes["pool_success"] = float(state.best.success)
        state.notes["pool_success_share"] = sum(fallen) / len(fallen)
        state.notes["pool_best_loss"] = state.best.loss
    state.record.close_iteration(*state.held, state.best.loss, state.best.success, n_evaluated)


def _is_left(state: _AutodanState, patience: int | None) -> bool:
    return patience is not None and state.waited >= patience


def _result(state: _AutodanState) -> AttackResult:
    notes = {**state.notes, "n_mutations": state.search.n_mutations, "n_failed_mutations": state.search.n_failed}
    return replace(state.record.result(), notes=notes)


@dataclass
class Search:
    """The search of one example.

    Attributes:
        rng: its own random stream.
        population: prefixes; the elite of the last population first.
        losses: of each, as far as two computations of it agree; empty before the first are scored.
        scores: of words (:func:`hardscale.attacks.autodan_words.word_scores`).
        n_mutations, n_failed: mutations so far, and those in which a mutator model gave nothing usable.
        answers: of a mutator model in the last step.
    """

    rng: random.Random
    population: list[Prefix]
    losses: list[float] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    n_mutations: int = 0
    n_failed: int = 0
    answers: list[Answer] = field(default_factory=list)

    def ranked(self) -> list[int]:
        """Indices of the population, lowest loss first."""
        return sorted(range(len(self.population)), key=lambda i: (self.losses[i], i))


def next_populations(
    searches: Sequence[Search], step: int, settings: AutoDan, synonyms: Synonyms | None, mutator: Mutator
) -> None:
    """Replace every population by its next generation.

    Args:
        searches: scored populations.
        step: counts the generations from 0.
        settings: of the attack.
        synonyms: for steps on words; None where there are none (``hierarchical: false``).
        mutator: rewrites children; all of all examples at once.
    """
    n_elite = max(int(settings.population * settings.elite_share), 1)
    bred = []
    for search in searches:
        search.answers = []
        order = search.ranked()
        elite = [search.population[i] for i in order[:n_elite]]
        if synonyms is None or step % settings.paragraph_every == 0:
            children = _paragraph_step(search, settings, settings.population - n_elite)
        else:
            children = _word_step(search, settings, order[n_elite:], synonyms)
        bred.append((search, elite, children))
    jobs = [
        (search, children, i, search.rng.getrandbits(62))
        for search, _, children in bred
        for i in range(len(children))
        if search.rng.random() < settings.mutation_probability
    ]
    done = mutator.rewrite([children[i] for _, children, i, _ in jobs], [seed for *_, seed in jobs]) if jobs else []
    for (search, children, i, _), rewrite in zip(jobs, done, strict=True):
        children[i] = rewrite.prefix
        search.n_mutations += 1
        search.n_failed += rewrite.failed
        search.answers.append(rewrite.answer)
    for search, elite, children in bred:
        search.population = elite + children


def _paragraph_step(search: Search, settings: AutoDan, n: int) -> list[Prefix]:
    """Children of parents drawn by fitness, crossed at the boundaries of sentences."""
    fitness = [-loss for loss in search.losses]
    parents = spin(search.population, fitness, n + n % 2, settings.roulette, search.rng)
    children: list[Prefix] = []
    for first, second in zip(parents[::2], parents[1::2], strict=True):
        if search.rng.random() < settings.crossover_probability:
            children += crossover(first, second, settings.crossover_points, search.rng)
        else:
            children += (first, second)
    return children[:n]


def _word_step(search: Search, settings: AutoDan, others: Sequence[int], synonyms: Synonyms) -> list[Prefix]:
    """All but the elite, with words exchanged."""
    fitness = [-loss for loss in search.losses]
    search.scores = word_scores(search.population, fitness, search.scores, settings.n_words)
    return [exchange(search.population[i], search.scores, synonyms, settings.roulette, search.rng) for i in others]
