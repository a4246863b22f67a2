"""What must hold for a study as a whole, in the order in which it is looked at: later checks rely on earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hardscale.errors import StudyError
from hardscale.settings.blocks import Settings
from hardscale.settings.checks import extent, ignored, names, pairs, sizes
from hardscale.untrusted.guarded import expanded

if TYPE_CHECKING:
    from hardscale.settings.study import Study


#: Keys whose texts are paths, or may be.
_PATHS = (
    *("root", "path", "gguf", "source", "behaviors", "targets", "safe_answers", "base", "adapter", "tokenizer"),
    *("harmless", "mmlu", "polite", "include_path", "python", "questions", "references"),
    *("prompt_file", "prompt_package", "pool_file", "standard", "contextual"),
)


def check_study(study: Study) -> None:
    """Refuse what is empty, unknown or contradictory.

    Raises:
        ValueError: with the key, what was found, and what is allowed.
    """
    try:
        for check in CHECKS:
            check(study)
    finally:
        study.memory.clear()


def check_homes(study: Study) -> None:
    """No path begins with the home of a user who is not known here."""
    for key, text in _texts("", study):
        if text.startswith("~") and key.rpartition(".")[2] in _PATHS:
            try:
                expanded(text, key, StudyError)
            except StudyError as error:
                raise ValueError(f"{key}: {error}") from error


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Key and text of every text in a study."""
    if isinstance(value, str):
        yield key.lstrip("."), value
    elif isinstance(value, Settings):
        for name in type(value).model_fields:
            yield from _texts(f"{key}.{name}", getattr(value, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(f"{key}.{name}", inner)


CHECKS: tuple[Callable[[Study], None], ...] = (
    names.check_tasks,
    names.check_families,
    names.check_reserved,
    names.check_rows,
    extent.check_cells,
    names.check_wheres,
    extent.check_extent,
    extent.check_wheres_match,
    ignored.check_overrides,
    pairs.check_pairs,
    names.check_roles,
    names.check_analysis,
    ignored.check_ignored,
    ignored.check_unread_parts,
    ignored.check_parts,
    extent.check_rounds,
    extent.check_jobs,
    pairs.check_positions,
    pairs.check_balls,
    pairs.check_chat_training,
    pairs.check_losses,
    check_homes,
    sizes.check_sizes,
    sizes.check_examples,
    sizes.check_headlines,
)
