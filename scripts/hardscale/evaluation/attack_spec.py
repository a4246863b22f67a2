"""The spec of an attack job, and the other models that an attack uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hardscale.artifacts.manifest import artifact_folder
from hardscale.attacks.results import Helper
from hardscale.errors import AttackError
from hardscale.evaluation.device import load_on_device
from hardscale.evaluation.spec_check import check_keys
from hardscale.settings.attack_base import AttackBase
from hardscale.settings.attacks import EmbeddingAttack
from hardscale.settings.study_attacks import parse_attack
from hardscale.settings.words import first_problem
from hardscale.tasks.wordings import read_named

KEYS = frozenset(
    {"cell", "defense", "round", "attack", "settings", "n_examples", "max_tokens", "seed", "shard", "shards"}
)
#: Roles of judging models, which an attack itself does not see.
_JUDGE = re.compile(r"judge\d+")


def check_spec(spec: dict[str, Any], keys: frozenset[str] = KEYS) -> AttackBase:
    """The attack's settings in a spec.

    Raises:
        StudyError: a key is missing or unknown.
        AttackError: a value is not allowed.
    """
    check_keys(spec, keys)
    if not 1 <= spec["shard"] <= spec["shards"]:
        raise AttackError(f"--spec: shard {spec['shard']} of {spec['shards']}; give 1 <= shard <= shards")
    try:
        return parse_attack(spec["settings"])
    except ValidationError as error:
        problem = first_problem(error, spec["settings"])
        raise AttackError(f"--spec: settings.{problem}; see docs/study.md") from error


def search_facts(settings: AttackBase) -> dict[str, Any]:
    """Settings that were filled in by the kind of victim; empty for attacks that have none."""
    return {key: settings.value(key) for key in settings.facts.by_victim}


def eps_facts(settings: AttackBase, notes: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The ball of an attack in embedding space; nothing of attacks in text.

    Args:
        settings: of the attack.
        notes: what it noted of its examples; ``eps_unused`` says that no vector ever left the ball, so that any larger
            ``eps`` would have given the same perturbations.
    """
    if not isinstance(settings, EmbeddingAttack):
        return {}
    ball = settings.perturbation
    facts = {"eps": ball.eps, "eps_mode": ball.eps_mode, "eps_of": settings.ball}
    if notes and "projected_share" in notes:
        facts["eps_unused"] = ball.eps_projects_only and notes["projected_share"] == 0
    return facts


def read_texts(settings: AttackBase, root: Path | None) -> dict[str, str]:
    """The texts of others that an attack uses, by role (:meth:`AttackBase.texts`).

    Raises:
        DataError: a file is not there or cannot be read.
    """
    return {role: read_named(text, root) for role, text in settings.texts("settings").items()}


def load_helpers(folders: Mapping[str, Path]) -> dict[str, Helper]:
    """The models that an attack uses besides its victim, by role; one folder is loaded once. Judges are left out.

    Raises:
        ArtifactError: a folder is no finished model.
        ModelError: its files do not make a language model.
    """
    loaded: dict[Path, Helper] = {}
    found = {}
    for role, folder in folders.items():
        if _JUDGE.fullmatch(role):
            continue
        place = Path(folder).resolve()
        if place not in loaded:
            loaded[place] = Helper(*load_on_device(place))
        found[role] = loaded[place]
    return found


def read_helpers(given: list[str]) -> dict[str, Path]:
    """Role -> folder of each ``ROLE=PATH``.

    Raises:
        AttackError: something else, or a role twice.
    """
    found: dict[str, Path] = {}
    for text in given:
        role, sign, path = text.partition("=")
        if not sign or not role or not path:
            raise AttackError(f"--helper: found {text!r}; give ROLE=PATH")
        if role in found or role in ("victim", "task"):
            raise AttackError(f"--helper: the role {role!r} is taken; give each role once")
        found[role] = artifact_folder(path)
    return found
