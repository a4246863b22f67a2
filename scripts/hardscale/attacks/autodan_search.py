"""The genetic step of AutoDAN: the next population of one example from the present one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from hardscale.attacks.autodan_words import exchange, word_scores
from hardscale.attacks.mutate import Mutator, Prefix, crossover
from hardscale.attacks.roulette import spin
from hardscale.attacks.synonyms import Synonyms
from hardscale.attacks.talker import Answer
from hardscale.settings.text_attacks import AutoDan


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
