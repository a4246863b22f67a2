"""Paths of a study that begin with a user's home: that user exists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hardscale.errors import StudyError
from hardscale.settings.blocks import Settings
from hardscale.untrusted.guarded import expanded

if TYPE_CHECKING:
    from hardscale.settings.study import Study

#: Keys whose texts are paths, or may be.
_PATHS = (
    *("root", "path", "gguf", "source", "behaviors", "targets", "safe_answers", "base", "adapter", "tokenizer"),
    *("harmless", "mmlu", "polite", "include_path", "python", "questions", "references"),
    *("prompt_file", "prompt_package", "pool_file", "standard", "contextual"),
)


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
