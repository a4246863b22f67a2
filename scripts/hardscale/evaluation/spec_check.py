"""Checks of a job's spec, before anything is loaded; no torch here, as some jobs run without it."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from hardscale.errors import StudyError
from hardscale.settings.words import from_spec

_Settings = TypeVar("_Settings", bound=BaseModel)


def check_keys(spec: dict[str, Any], keys: frozenset[str]) -> None:
    """Refuse a spec with other keys.

    Raises:
        StudyError: a key is missing or unknown.
    """
    for what, some in (("missing", keys - set(spec)), ("unknown", set(spec) - keys)):
        if some:
            raise StudyError(f"--spec: {what} key(s) {', '.join(sorted(some))}; allowed: {', '.join(sorted(keys))}")


def check_settings(spec: dict[str, Any], keys: frozenset[str], schema: type[_Settings]) -> _Settings:
    """The ``settings`` of a spec.

    Raises:
        StudyError: a key is missing or unknown, or a value is not allowed.
    """
    check_keys(spec, keys)
    return from_spec(schema, spec["settings"])
