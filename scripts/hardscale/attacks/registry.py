"""Attacks and victims by name, imported only when asked for: a job loads the one attack that it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, get_args

from hardscale.errors import AttackError
from hardscale.settings import AttackSettings


def find_attack(name: str) -> Callable[..., Any]:
    """The ``run`` function of an attack: that of the module with its name in this package.

    Raises:
        AttackError: no such attack.
    """
    known = get_args(AttackSettings.model_fields["kind"].annotation)
    if name not in known:
        raise AttackError(f"method {name!r}: not an attack; one of {', '.join(known)}")
    return importlib.import_module(f"hardscale.attacks.{name}").run


def language_victim() -> Callable[..., Any]:
    """The victim class for targets that are texts."""
    return importlib.import_module("hardscale.attacks.language_victim").LanguageVictim
