"""AutoDAN on words: which ones go with good prefixes, and exchanging others for them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from hardscale.attacks.mutate import Prefix
from hardscale.attacks.prefixes import COMMON, sentences, words
from hardscale.attacks.roulette import spin
from hardscale.attacks.synonyms import Synonyms

#: A word is exchanged with this probability.
_EXCHANGED = 0.5
#: A word with the space before it, where there is one.
_SPOT = re.compile(r" ?[A-Za-z]+")


def word_scores(
    prefixes: Sequence[Prefix], fitness: Sequence[float], before: Mapping[str, float], n_words: int
) -> dict[str, float]:
    """Score of each word: the mean fitness of the prefixes that have it, averaged with its score before.

    Args:
        prefixes: the population.
        fitness: of each; higher is better.
        before: scores after the last step.
        n_words: how many of the best are kept.

    Returns:
        the best words with their scores, best first; words that every text has are left out.
    """
    found: dict[str, list[float]] = {}
    for prefix, value in zip(prefixes, fitness, strict=True):
        for word in set(words(" ".join(prefix))) - COMMON:
            found.setdefault(word, []).append(value)
    scores = dict(before)
    for word, values in found.items():
        mean = sum(values) / len(values)
        scores[word] = (before[word] + mean) / 2 if word in before else mean
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:n_words]
    return dict(best)


def exchange(
    prefix: Prefix,
    scores: Mapping[str, float],
    synonyms: Synonyms,
    kind: Literal["softmax", "sum"],
    rng: random.Random,
) -> Prefix:
    """A prefix in which words are replaced by synonyms, drawn by their scores.

    Each word that is not a common one is replaced with probability 1/2. A synonym without a score counts as the worst
    word that has one.
    """
    floor = min(scores.values(), default=0.0)
    whole = " ".join(prefix)  # so that the first word of a sentence has its space too
    spots = list(_SPOT.finditer(whole))
    parts, end = [], 0
    for spot, alike in zip(spots, synonyms.of([spot.group() for spot in spots]), strict=True):
        text = spot.group()
        if alike and text.strip().lower() not in COMMON and rng.random() < _EXCHANGED:
            fitness = [scores.get(word.strip().lower(), floor) for word in alike]
            [text] = spin(alike, fitness, 1, kind, rng)
        parts += [whole[end : spot.start()], text]
        end = spot.end()
    return sentences("".join(parts) + whole[end:])
