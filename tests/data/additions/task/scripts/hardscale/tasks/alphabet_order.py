"""AlphabetOrder: which of two words comes first in the alphabet? Generated, exactly balanced."""

from __future__ import annotations

from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.example import BuiltTask, Example
from hardscale.tasks.splits import shuffled
from hardscale.tasks.templates import ConstructedTask
from hardscale.tasks.words import divide, draw_words, word_source_name

TASK = ConstructedTask(
    instruction="Answer FIRST if the first word comes first in the alphabet and SECOND if the second word does.\n\n",
    labels=(" FIRST", " SECOND"),
    constants=("Word 1: ", "\nWord 2: ", "\n---\n"),
    free_slot=True,
)


def build(name: str, settings: TaskSettings, seed: int) -> BuiltTask:
    """Both splits: each word beside the next one that was drawn; no word is in both splits.

    Raises:
        DataError: there are fewer words than examples.
    """
    needs = settings.n_train + 1, settings.n_validation + 1
    words = draw_words(settings.words, sum(needs), derive_seed(seed, "task", name, "words"))
    if len(words) < sum(needs):
        raise DataError(
            f"tasks.{name}: n_train and n_validation need {sum(needs)} words together, and there are {len(words)}; "
            "lower n_train, or widen words"
        )

    def split(pool: list[str], n: int) -> list[Example]:
        examples = []
        for i in range(n):
            label = i % 2
            pair = tuple(sorted(pool[i : i + 2], reverse=bool(label)))
            chunks = TASK.chunks(pair, settings.instruction, settings.answer_prompt)
            examples.append(Example(i, chunks, TASK.modifiable, label))
        return shuffled(examples, n, derive_seed(seed, "task", name, "shuffle"))

    train, validation = divide(words, *needs)
    return BuiltTask(
        train=split(train, settings.n_train),
        validation=split(validation, settings.n_validation),
        labels=TASK.labels,
        chunk_kinds=TASK.chunk_kinds,
        pieces=TASK.pieces(settings.instruction, settings.answer_prompt),
        facts={"source": word_source_name(settings.words), "revision": "unpinned", "n_words": len(words)},
    )
