"""The settings of an attack as arguments of :func:`hardscale.attacks.base.attack`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardscale.settings.attacks import AttackSettings


def attack_options(settings: AttackSettings) -> dict[str, Any]:
    """Keyword arguments that mean the same in every use of an attack; iterations and seed depend on the use."""
    return {
        "method": settings.kind,
        "n_candidates": settings.n_candidates,
        "top_k": settings.top_k,
        "n_attack_tokens": settings.n_attack_tokens,
        "init_text": settings.initial_text,
        "gradient": settings.gradient,
        "candidate_rng": settings.candidate_rng,
        "early_stop": settings.early_stop,
        "allowed": settings.allowed,
        "held": settings.held,
    }
