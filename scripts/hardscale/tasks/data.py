"""Reading a published task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.schemas import EXAMPLES
from hardscale.artifacts.tables import read_table
from hardscale.errors import DataError
from hardscale.tasks.example import Example

#: Prompts that are tokenized at once when their length is checked.
_BATCH = 1_000


@dataclass(frozen=True)
class TaskData:
    """What is constant in a task.

    Attributes:
        name: as the study calls it.
        labels: label strings in class order, each with a leading space.
        chunk_kinds: what an attack may do to each chunk.
        pieces: constant strings of the prompt.
        facts: all facts of the manifest, among them ``position``: the side an attack writes on by default.
    """

    name: str
    labels: tuple[str, ...]
    chunk_kinds: tuple[str, ...]
    pieces: tuple[str, ...]
    facts: dict[str, Any]


def load_task(folder: Path) -> TaskData:
    """The constants of a published task.

    Raises:
        ArtifactError: the folder is not a finished task.
    """
    manifest = open_artifact(folder, "task")
    facts = manifest["facts"]
    return TaskData(
        name=manifest["spec"]["name"],
        labels=tuple(facts["labels"]),
        chunk_kinds=tuple(facts["chunk_kinds"]),
        pieces=tuple(facts["pieces"]),
        facts=facts,
    )


def load_split(
    folder: Path, split: Literal["train", "validation"], tokenizer: Any = None, max_tokens: int | None = None
) -> list[Example]:
    """The examples of a split in their order, without those whose whole prompt has more than ``max_tokens`` tokens.

    Raises:
        DataError: the table is missing or broken, or every prompt is too long.
    """
    path = Path(folder) / f"{split}.parquet"
    table = read_table(path, EXAMPLES)
    examples = [
        Example(row["example_id"], tuple(row["chunks"]), row["modifiable"], row["label"]) for row in table.to_pylist()
    ]
    if max_tokens is None:
        return examples
    if tokenizer is None:
        raise ValueError("max_tokens needs a tokenizer")
    kept = [
        example
        for start in range(0, len(examples), _BATCH)
        for example, length in _with_lengths(examples[start : start + _BATCH], tokenizer)
        if length <= max_tokens
    ]
    if not kept:
        raise DataError(
            f"{path}: all {len(examples)} prompts are longer than max_tokens {max_tokens}; raise it, or set max_words"
        )
    return kept


def _with_lengths(examples: list[Example], tokenizer: Any) -> list[tuple[Example, int]]:
    encoded = tokenizer([example.text for example in examples])["input_ids"]
    return [(example, len(ids)) for example, ids in zip(examples, encoded, strict=True)]
