"""Words of the constructed tasks: an English word list or random letters, always distinct, always by seed."""

from __future__ import annotations

import importlib.metadata
import string

import numpy as np

from hardscale.settings.tasks import WordSource


def letter_words_possible(words: WordSource) -> int:
    """How many distinct strings of lower-case letters have an allowed length."""
    return sum(26**length for length in range(words.min_length, words.max_length + 1))


def draw_words(words: WordSource, needed: int, seed: int) -> list[str]:
    """Distinct lower-case words in an order drawn by seed.

    ``n_words`` is the most that are kept. Without it, a word list is kept whole and random letters are made for
    ``needed`` words; either way there can be fewer than ``needed``, which is for the caller to judge.
    """
    rng = np.random.default_rng(seed)
    if words.source == "letters":
        wanted = min(words.n_words or needed, letter_words_possible(words))
        return _letter_words(wanted, words.min_length, words.max_length, rng)
    listed = english_words(words.min_length, words.max_length)
    chosen = rng.permutation(len(listed))[: words.n_words]
    return [listed[i] for i in chosen]


def english_words(min_length: int, max_length: int) -> list[str]:
    """Lower-case alphabetic words of the web2 list, sorted."""
    from english_words import get_english_words_set

    listed = get_english_words_set(["web2"], lower=True, alpha=True)
    return sorted(w for w in listed if w.isascii() and w.isalpha() and min_length <= len(w) <= max_length)


def word_source_name(words: WordSource) -> str:
    """Where words come from, with the version of the list."""
    if words.source == "letters":
        return "letters"
    return f"english-words {importlib.metadata.version('english-words')} web2"


def divide(words: list[str], train_need: int, validation_need: int) -> tuple[list[str], list[str]]:
    """Two disjoint lists of words, in proportion to what each split needs.

    Whenever there are ``train_need + validation_need`` words, each split gets at least what it needs.
    """
    n_validation = len(words) * validation_need // (train_need + validation_need)
    return words[n_validation:], words[:n_validation]


def _letter_words(n: int, min_length: int, max_length: int, rng: np.random.Generator) -> list[str]:
    """Distinct strings, as evenly over the lengths as there are strings of each length."""
    made: list[str] = []
    lengths = range(min_length, max_length + 1)
    for i, length in enumerate(lengths):
        # Shortest first: what a short length cannot give is made up for by the longer ones.
        share = -(-(n - len(made)) // (len(lengths) - i))
        made += _words_of_length(min(share, 26**length), length, rng)
    return [made[i] for i in rng.permutation(len(made))]


def _words_of_length(n: int, length: int, rng: np.random.Generator) -> list[str]:
    if 26**length <= 4 * n:  # so many of all that drawing anew would meet known ones most of the time
        return [_spell(int(i), length) for i in rng.permutation(26**length)[:n]]
    made: dict[str, None] = {}
    letters = np.array(list(string.ascii_lowercase))
    while len(made) < n:
        drawn = letters[rng.integers(0, 26, size=(n - len(made), length))]
        made.update(dict.fromkeys("".join(row) for row in drawn))
    return list(made)


def _spell(number: int, length: int) -> str:
    """The ``number``-th string of this length in alphabetic order."""
    spelled = ""
    for _ in range(length):
        number, digit = divmod(number, 26)
        spelled = string.ascii_lowercase[digit] + spelled
    return spelled
