"""AutoDAN on words: which ones go with good prefixes, and exchanging others for them."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch

from hardscale.attacks.chat_generator import Answer, ChatGenerator
from hardscale.attacks.chat_text import inert
from hardscale.attacks.codec import Codec
from hardscale.attacks.prefixes import COMMON, SENTENCES, sentences, words
from hardscale.attacks.victim import Victim
from hardscale.models.parameters import whole_weight

#: A word is exchanged with this probability.
_EXCHANGED = 0.5
#: A word with the space before it, where there is one.
_SPOT = re.compile(r" ?[A-Za-z]+")


#: A whole word of three letters or more, in one of three forms, with or without the space before it.
_WORD = re.compile(r"(?P<space> ?)(?:(?P<lower>[a-z]{3,})|(?P<title>[A-Z][a-z]{2,})|(?P<upper>[A-Z]{3,}))")
#: Stands before a word, so that tokenizers that drop a leading space at the start of a text show it.
_ANCHOR = "a"
#: Words looked up at once.
_CHUNK = 64
Form = tuple[bool, str]
#: Sentences of a prefix beyond which rules insert no more.
_LONGEST = 12
#: A rewrite may be so many times as long as what it replaces, in tokens, and has so many tokens at most.
_GROWTH, _MOST_TOKENS = 2, 512
_REWRITE = (
    "Rewrite the text between the lines in other words. Keep its meaning, its order and its length. "
    "Answer with the new text alone.\n---\n{text}\n---"
)
Prefix = tuple[str, ...]
_T = TypeVar("_T")


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


def form_of(text: str) -> Form | None:
    """Whether a space leads, and ``lower``, ``title`` or ``upper``; None if the text is no whole word."""
    match = _WORD.fullmatch(text)
    return (bool(match["space"]), str(match.lastgroup)) if match else None


class Synonyms:
    """Nearest neighbors by cosine among the words that are one token of a victim's tokenizer.

    A word is replaced by words of its own form only: the same space before it and the same capitals. The beginning of a
    longer word counts as a word where it is a token of letters, as nothing in a vocabulary tells the two apart.

    Args:
        victim: whose embeddings are compared.
        codec: its tokenizer.
        n: neighbors of a word.
        never: words, in lower case, that are neither replaced nor proposed.
    """

    def __init__(self, victim: Victim, codec: Codec, n: int = 5, never: Collection[str] = ()) -> None:
        self._n = n
        self._never = frozenset(never)
        self._known: dict[str, tuple[str, ...]] = {}
        self._groups: dict[Form, tuple[list[str], torch.Tensor]] = {}
        found: dict[Form, list[tuple[str, int]]] = {}
        for token, text in _single_tokens(codec):
            form = form_of(text)
            if form and text.strip().lower() not in self._never:
                found.setdefault(form, []).append((text, token))
        with whole_weight(victim.embedding.weight) as embeddings:
            for form, pairs in found.items():
                index = torch.tensor([token for _, token in pairs], device=embeddings.device)
                rows = torch.nn.functional.normalize(embeddings[index].float(), dim=1)
                self._groups[form] = ([text for text, _ in pairs], rows)
        self._index = {text: i for texts, _ in self._groups.values() for i, text in enumerate(texts)}

    def of(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Synonyms of words, each written like the word itself; none for a word that is not one token."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        by_form: dict[Form, list[str]] = {}
        for text in new:
            form = form_of(text)
            if form and text in self._index:
                by_form.setdefault(form, []).append(text)
            else:
                self._known[text] = ()
        for form, wanted in by_form.items():
            for start in range(0, len(wanted), _CHUNK):
                self._look_up(form, wanted[start : start + _CHUNK])
        return [self._known[text] for text in texts]

    def _look_up(self, form: Form, wanted: Sequence[str]) -> None:
        texts, rows = self._groups[form]
        index = torch.tensor([self._index[text] for text in wanted], device=rows.device)
        likeness = rows[index] @ rows.T  # (wanted, words of the form)
        likeness[torch.arange(len(wanted), device=rows.device), index] = -torch.inf
        n = min(self._n, len(texts) - 1)
        nearest = likeness.argsort(dim=1, descending=True, stable=True)[:, :n].tolist()
        for text, neighbors in zip(wanted, nearest, strict=True):
            self._known[text] = tuple(texts[i] for i in neighbors)


def _single_tokens(codec: Codec) -> list[tuple[int, str]]:
    """Token ids and their texts behind another word, for those that the tokenizer reads back as one token."""
    [anchor] = codec.encode_alone([_ANCHOR])
    [alone] = codec.decode([anchor])
    texts = [text[len(alone) :] for text in codec.decode([[*anchor, token] for token in codec.allowed])]
    some = [(token, text) for token, text in zip(codec.allowed, texts, strict=True) if form_of(text)]
    # A word without a space would join the anchor, so it is read alone.
    asked = [_ANCHOR + text if text.startswith(" ") else text for _, text in some]
    wanted = [[*anchor, token] if text.startswith(" ") else [token] for token, text in some]
    read = codec.encode_alone(asked)
    return [pair for pair, ids, one in zip(some, read, wanted, strict=True) if ids == one]


def crossover(first: Prefix, second: Prefix, n_points: int, rng: random.Random) -> tuple[Prefix, Prefix]:
    """Two children of two prefixes, cut at the same boundaries between sentences.

    Args:
        first: sentences of one parent.
        second: sentences of the other.
        n_points: cuts at most; fewer where the shorter parent has fewer boundaries.
        rng: decides the cuts, and for each segment which child gets which parent's.
    """
    bounds = range(1, min(len(first), len(second)))
    cuts = sorted(rng.sample(bounds, min(n_points, len(bounds))))
    one: list[str] = []
    two: list[str] = []
    for start, stop in zip([0, *cuts], [*cuts, None], strict=True):
        parts = [first[start:stop], second[start:stop]]
        if rng.random() < 0.5:
            parts.reverse()
        one += parts[0]
        two += parts[1]
    return tuple(one), tuple(two)


class Rewrite(NamedTuple):
    """A mutated prefix, whether a model gave nothing usable so that rules did the work, and what the model said."""

    prefix: Prefix
    failed: bool = False
    answer: Answer = Answer()


class Mutator(Protocol):
    """Rewrites prefixes; the same prefix and seed give the same text, whatever stands beside it."""

    def rewrite(self, prefixes: Sequence[Prefix], seeds: Sequence[int]) -> list[Rewrite]:
        """A new prefix for each, never empty."""
        ...


class RuleMutator:
    """Shuffles the sentences behind the first, drops one, or inserts one of the pool's.

    Args:
        pool: sentences that may be inserted.
    """

    def __init__(self, pool: Sequence[str] = SENTENCES) -> None:
        self._pool = pool

    def rewrite(self, prefixes: Sequence[Prefix], seeds: Sequence[int]) -> list[Rewrite]:
        """See :class:`Mutator`."""
        pairs = zip(prefixes, seeds, strict=True)
        return [Rewrite(_by_rule(prefix, random.Random(seed), self._pool)) for prefix, seed in pairs]


def _by_rule(prefix: Prefix, rng: random.Random, pool: Sequence[str]) -> Prefix:
    kinds = (
        ["insert"] * (len(prefix) < _LONGEST and bool(pool))
        + ["drop"] * (len(prefix) > 1)
        + ["shuffle"] * (len(prefix) > 2)
    )
    if not kinds:
        return prefix
    kind = rng.choice(kinds)
    if kind == "insert":
        at = rng.randint(1, len(prefix))
        return (*prefix[:at], rng.choice(pool), *prefix[at:])
    if kind == "drop":
        at = rng.randrange(len(prefix))
        return prefix[:at] + prefix[at + 1 :]
    return (prefix[0], *rng.sample(prefix[1:], len(prefix) - 1))


class ModelMutator:
    """Asks a language model for other words; rules where it answers nothing usable.

    Args:
        talker: the model.
        victim_tokenizer: whose markers may not stand in a prefix.
        pool: sentences that rules may insert.
    """

    def __init__(self, talker: ChatGenerator, victim_tokenizer: Any, pool: Sequence[str] = SENTENCES) -> None:
        self._talker = talker
        self._tokenizer = victim_tokenizer
        self._pool = pool

    def rewrite(self, prefixes: Sequence[Prefix], seeds: Sequence[int]) -> list[Rewrite]:
        """See :class:`Mutator`."""
        texts = [" ".join(prefix) for prefix in prefixes]
        sizes = [self._talker.length(text) for text in texts]
        messages = [[("user", _REWRITE.replace("{text}", text))] for text in texts]
        answers = self._talker.ask(messages, _MOST_TOKENS, seeds)
        rewritten = []
        for prefix, seed, size, answer in zip(prefixes, seeds, sizes, answers, strict=True):
            found = sentences(inert(re.sub("-{2,}", " ", answer.text or ""), self._tokenizer))
            usable = bool(found) and found != prefix and self._talker.length(" ".join(found)) <= _GROWTH * size
            new = found if usable else _by_rule(prefix, random.Random(seed), self._pool)
            rewritten.append(Rewrite(new, not usable, answer))
        return rewritten


def chances(fitness: Sequence[float], kind: Literal["softmax", "sum"]) -> list[float]:
    """The probability of each.

    ``softmax``: ``exp(f_i) / sum_j exp(f_j)``. ``sum``: ``f_i / sum_j f_j`` as published, which prefers the worse of
    negative fitness values.
    """
    if kind == "softmax":
        top = max(fitness)
        weights = [math.exp(value - top) for value in fitness]
    else:
        weights = [abs(value) for value in fitness]  # all of one sign, which cancels in the quotient
    total = sum(weights)
    return [weight / total if total > 0 else 1 / len(weights) for weight in weights]


def spin(
    things: Sequence[_T], fitness: Sequence[float], n: int, kind: Literal["softmax", "sum"], rng: random.Random
) -> list[_T]:
    """``n`` things drawn with replacement."""
    return rng.choices(things, weights=chances(fitness, kind), k=n)
