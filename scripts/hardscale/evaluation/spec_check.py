"""Checks of a job's spec, before anything is loaded; no torch here, as some jobs run without it."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel

from hardscale.errors import AttackError, StudyError
from hardscale.runtime.instruction_set import KEY, PINNED, settle
from hardscale.settings.words import from_spec

_Settings = TypeVar("_Settings", bound=BaseModel)


def read_spec(text: str) -> dict[str, Any]:
    """The spec of a command line: one JSON object.

    Raises:
        AttackError: it is something else.
    """
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise AttackError(f"--spec: not JSON ({error})") from error
    if not isinstance(spec, dict):
        raise AttackError(f"--spec: found {type(spec).__name__}, must be an object")
    return spec


def settled_spec(text: str) -> dict[str, Any]:
    """The spec of a command line, and the instruction set selected: call it before numpy or torch is imported.

    Raises:
        AttackError: it is not a JSON object.
        StudyError: no such instruction set, or it comes too late.
    """
    spec = read_spec(text)
    settle(spec.get(KEY, PINNED))
    return spec


def check_keys(spec: dict[str, Any], keys: frozenset[str]) -> None:
    """Refuse a spec with other keys; ``instruction_set`` may stand in every one, the entry has read it.

    Raises:
        StudyError: a key is missing or unknown.
    """
    for what, some in (("missing", keys - set(spec)), ("unknown", set(spec) - keys - {KEY})):
        if some:
            raise StudyError(
                f"--spec: {what} key(s) {', '.join(sorted(some))}; allowed: {', '.join(sorted(keys | {KEY}))}"
            )


def check_settings(spec: dict[str, Any], keys: frozenset[str], schema: type[_Settings]) -> _Settings:
    """The ``settings`` of a spec.

    Raises:
        StudyError: a key is missing or unknown, or a value is not allowed.
    """
    check_keys(spec, keys)
    return from_spec(schema, spec["settings"])
