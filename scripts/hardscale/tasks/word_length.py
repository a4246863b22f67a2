"""WordLength: is the first word at least as long as the second? Generated (section 3 and appendix on datasets)."""

from __future__ import annotations

import numpy as np

from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.example import BuiltTask, Example
from hardscale.tasks.splits import shuffled
from hardscale.tasks.templates import ConstructedTask
from hardscale.tasks.words import divide, draw_words, word_source_name

TASK = ConstructedTask(
    instruction=(
        "Compare the lengths of two words. Answer FIRST if the first word is longer or both are equally long, and "
        "SECOND if the second word is longer. What comes after the second word does not count.\n\n"
    ),
    labels=(" FIRST", " SECOND"),
    constants=("Word 1: ", "\nWord 2: ", "\n---\n"),
    free_slot=True,
)
_MOST_DRAWS = 50


def label_of(first: str, second: str) -> int:
    """0 (FIRST) when the first word is longer or both are equally long, else 1 (SECOND)."""
    return 0 if len(first) >= len(second) else 1


def build(name: str, settings: TaskSettings, seed: int) -> BuiltTask:
    """Both splits: independent uniform pairs of words, with replacement; no pair is in both splits.

    Made-up words are also disjoint between the splits. Classes are as unequal as chance makes them: equal lengths
    count as FIRST.

    Raises:
        DataError: all words are equally long, or there are too few of them for a validation split of new pairs.
    """
    # Every word of a pair fresh, where there are that many.
    needs = 2 * settings.n_train, 2 * settings.n_validation
    words = draw_words(settings.words, sum(needs), derive_seed(seed, "task", name, "words"))
    train_words, validation_words = divide(words, *needs) if settings.words.source == "letters" else (words, words)
    for pool in (train_words, validation_words):
        if len({len(word) for word in pool}) < 2:
            raise DataError(
                f"tasks.{name}: words of at least two lengths are needed in each split, found {len(words)} words of "
                f"{settings.words.min_length} to {settings.words.max_length} letters; widen words"
            )
    train = _pairs(train_words, settings.n_train, _rng(seed, name, "train"), frozenset())
    validation = _pairs(validation_words, settings.n_validation, _rng(seed, name, "validation"), frozenset(train))
    if len(validation) < settings.n_validation:
        raise DataError(
            f"tasks.{name}: only {len(validation)} of n_validation {settings.n_validation} pairs are new to training "
            f"with {len(words)} words; lower n_train or n_validation, or widen words"
        )

    def split(pairs: list[tuple[str, str]]) -> list[Example]:
        examples = [
            Example(
                i,
                TASK.chunks(pair, settings.instruction, settings.answer_prompt),
                TASK.modifiable,
                label_of(*pair),
            )
            for i, pair in enumerate(pairs)
        ]
        return shuffled(examples, len(examples), derive_seed(seed, "task", name, "shuffle"))

    return BuiltTask(
        train=split(train),
        validation=split(validation),
        labels=TASK.labels,
        chunk_kinds=TASK.chunk_kinds,
        pieces=TASK.pieces(settings.instruction, settings.answer_prompt),
        facts={"source": word_source_name(settings.words), "revision": "unpinned", "n_words": len(words)},
    )


def _rng(seed: int, name: str, which: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "task", name, "pairs", which))


def _pairs(
    pool: list[str], n: int, rng: np.random.Generator, taken: frozenset[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Up to ``n`` pairs that are not ``taken``; fewer only when new ones are hardly ever drawn."""
    pairs: list[tuple[str, str]] = []
    for _ in range(_MOST_DRAWS):
        drawn = ((pool[i], pool[j]) for i, j in rng.integers(0, len(pool), size=(n, 2)))
        pairs += [pair for pair in drawn if pair not in taken]
        if len(pairs) >= n:
            break
    return pairs[:n]
