"""Attacks and victims by name, imported only when asked for: a job loads the one attack that it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from hardscale.errors import AttackError
from hardscale.settings.study_attacks import ATTACK_KINDS


def find_attack(name: str) -> Callable[..., Any]:
    """The ``run`` function of an attack: that of the module with its name in this package.

    Raises:
        AttackError: no such attack.
    """
    if name not in ATTACK_KINDS:
        raise AttackError(f"method {name!r}: not an attack; one of {', '.join(ATTACK_KINDS)}")
    return importlib.import_module(f"hardscale.attacks.{name}").run


def language_victim() -> Callable[..., Any]:
    """The victim class for targets that are texts."""
    return importlib.import_module("hardscale.attacks.language_victim").LanguageVictim
