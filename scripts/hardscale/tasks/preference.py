"""Helpful and Harmless: which of two conversations has the better assistant (section 3)."""

from __future__ import annotations

from pathlib import Path

from hardscale.artifacts.seeds import derive_seed
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.example import BuiltTask, Example
from hardscale.tasks.source import Row, read_source
from hardscale.tasks.splits import SplitRecord, cut_to_words, draw_splits, text_of
from hardscale.tasks.templates import TEMPLATES


def build(name: str, kind: str, settings: TaskSettings, seed: int, root: Path | None) -> BuiltTask:
    """Both splits, from the columns ``chosen`` and ``rejected``.

    The place after the shuffle sets the order of the two: even places show the chosen conversation first (label 0),
    odd ones second (label 1), so classes are balanced. ``max_words`` is shared equally by the two conversations and
    keeps their ends, because the last reply is where they differ. Pairs that are empty or equal are left out.

    Raises:
        DataError: the table cannot be read, or a split is empty.
    """
    template = TEMPLATES[kind]
    source = read_source(name, settings, root, ("chosen", "rejected"))
    words_each = None if settings.max_words is None else max(1, settings.max_words // 2)

    def record(row: Row) -> SplitRecord | None:
        original = text_of(row, "chosen"), text_of(row, "rejected")
        texts = tuple(cut_to_words(conversation, words_each, keep="last") for conversation in original)
        if texts[0] == texts[1] or not all(conversation.strip() for conversation in texts):
            return None
        return SplitRecord(row.index, original, texts, label=0)

    records = {
        split: [found for row in rows if (found := record(row)) is not None] for split, rows in source.splits.items()
    }
    splits = draw_splits(name, source, records, settings, derive_seed(seed, "task", name, "shuffle"))

    def example(place: int, drawn: SplitRecord) -> Example:
        label = place % 2
        values = drawn.texts if label == 0 else drawn.texts[::-1]
        chunks = template.chunks(values, settings.instruction, settings.answer_prompt)
        return Example(drawn.example_id, chunks, template.modifiable, label)

    return BuiltTask(
        train=[example(*numbered) for numbered in enumerate(splits.train)],
        validation=[example(*numbered) for numbered in enumerate(splits.validation)],
        labels=template.labels,
        chunk_kinds=template.chunk_kinds,
        pieces=template.pieces(settings.instruction, settings.answer_prompt),
        facts={**source.facts, **splits.facts},
    )
