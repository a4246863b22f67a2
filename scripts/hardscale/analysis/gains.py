"""What a defense of chat models gains: the target's loss against that of the same behaviors on other models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike

from hardscale.analysis.intervals import Estimate, mean_interval
from hardscale.artifacts import paths
from hardscale.artifacts.manifest import open_artifact
from hardscale.errors import DataError
from hardscale.evaluation.chat_tables import ChatAttack
from hardscale.settings.study import UNDEFENDED
from hardscale.settings.study_defenses import defenses_that_train_on

BASE, REFUSAL_SFT, NO_ATTACK = "base", "refusal_sft", "no_attack"
#: Name under which the requests as they are stand among the attacks.
UNATTACKED = "none"

_str, _i64, _f64 = pa.string(), pa.int64(), pa.float64()
#: Columns of tables/gains.*: ``gain`` is the mean over behaviors of the loss of a defended model minus the loss of
#: ``other``, in nats a token; above 0 the defended model is the harder one to make begin as the attack wants.
GAINS = pa.schema(
    [
        *((name, _str) for name in ("task", "family", "scale")),
        ("seed", _i64),
        ("defense", _str),
        ("round", _i64),
        ("attack", _str),
        ("attack_kind", _str),
        ("eps", _f64),
        ("other", _str),
        ("other_role", _str),
        *((name, _f64) for name in ("gain", "ci_low", "ci_high", "loss", "other_loss")),
        ("n", _i64),
    ]
)
_CELL = ("task", "family", "scale", "seed")
_CONTINUOUS = defenses_that_train_on("continuous", "chat")


def baseline_role(settings: Mapping[str, Any]) -> str | None:
    """What a defense is a baseline for: the same training without an attack, or answers of refusal alone; or nothing.

    Args:
        settings: of the defense, as its model's manifest holds them.
    """
    if settings.get("kind") not in _CONTINUOUS or settings.get("attack") is not None:
        return None
    is_sft = settings.get("away_weight") == 0
    return REFUSAL_SFT if is_sft else NO_ATTACK


def baseline_roles(root: Path, attacks: Sequence[ChatAttack]) -> dict[tuple[Any, ...], str]:
    """(task, family, scale, seed, defense) -> role, of all models that others are compared with."""
    roles = {}
    for attack in attacks:
        model = attack.model
        key = (*(model[name] for name in _CELL), model["defense"])
        if model["defense"] == UNDEFENDED:
            roles[key] = BASE
            continue
        cell = f"{model['task']}/{model['family']}/{model['scale']}/s{model['seed']}"
        folder = paths.model(root, f"{cell}/{model['defense']}", int(model["round"]))
        role = baseline_role(open_artifact(folder, "model")["spec"].get("settings") or {})
        if role is not None:
            roles[key] = role
    return roles


def gains(attacks: Sequence[ChatAttack], roles: Mapping[tuple[Any, ...], str]) -> pd.DataFrame:
    """Rows of GAINS: every defended model against every baseline of its cell, under every attack and under none.

    Losses are those after the last iteration. Intervals are of these models, over behaviors.
    """
    rows = [row for attack in [*_unattacked(attacks), *attacks] for row in _gains_of(attack, attacks, roles)]
    table = pd.DataFrame(rows, columns=GAINS.names)
    keys = [*_CELL, "defense", "round", "attack", "other"]
    return table.sort_values(keys, kind="stable", ignore_index=True)


def _unattacked(attacks: Sequence[ChatAttack]) -> Iterator[ChatAttack]:
    """The requests as they are, once a model."""
    done = set()
    for attack in attacks:
        key = _model(attack)
        losses = {i: values[:1] for i, values in attack.losses.items()}
        if key not in done and any(values[0] == values[0] for values in losses.values()):
            done.add(key)
            facts = {"attack": UNATTACKED, "attack_kind": UNATTACKED, "eps": None, "eps_mode": None}
            yield ChatAttack(attack.model, facts, losses, {})


def _model(attack: ChatAttack) -> tuple[Any, ...]:
    return (*(attack.model[name] for name in (*_CELL, "defense")), attack.model["round"])


def _gains_of(
    attack: ChatAttack, attacks: Sequence[ChatAttack], roles: Mapping[tuple[Any, ...], str]
) -> Iterator[dict[str, Any]]:
    model = attack.model
    if model["defense"] == UNDEFENDED:
        return
    others = list(_unattacked(attacks)) if attack.attack["attack"] == UNATTACKED else attacks
    last = {i: values[-1] for i, values in attack.losses.items()}
    for other in others:
        key = (*(other.model[name] for name in _CELL), other.model["defense"])
        same = key[:-1] == tuple(model[name] for name in _CELL) and key[-1] != model["defense"]
        if key not in roles or not same or other.attack["attack"] != attack.attack["attack"]:
            continue
        mine, theirs = common(last, {i: values[-1] for i, values in other.losses.items()})
        if not mine:
            continue
        gain, low, high = paired_gain(mine, theirs)
        yield {
            **{name: model[name] for name in (*_CELL, "defense", "round")},
            **{name: attack.attack[name] for name in ("attack", "attack_kind", "eps")},
            "other": other.model["defense"],
            "other_role": roles[key],
            "gain": gain,
            "ci_low": low,
            "ci_high": high,
            "loss": sum(mine) / len(mine),
            "other_loss": sum(theirs) / len(theirs),
            "n": len(mine),
        }


def paired_gain(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """``mean(first - second)`` with the interval of a mean; see :func:`hardscale.analysis.intervals.mean_interval`.

    Args:
        first: ``(n,)`` numbers, one an example (say the target's loss of a defended model).
        second: ``(n,)`` numbers, the same examples in the same order (of the model it is compared with).
        level: confidence level.

    Returns:
        Mean difference, lower and upper bound; both bounds are NaN where too few examples give none.

    Raises:
        DataError: lengths differ, there are no examples, or a number is not finite.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise DataError(f"paired gain: found shapes {a.shape} and {b.shape}; give the same examples, at least one")
    difference = a - b
    if not np.isfinite(difference).all():
        raise DataError("paired gain: a loss is not finite; leave that example out of both")
    return mean_interval(difference, level)


def common(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """Finite measurements of the examples that both have, in the order of their ids."""
    ids = sorted(i for i in first.keys() & second.keys() if np.isfinite(first[i]) and np.isfinite(second[i]))
    return [first[i] for i in ids], [second[i] for i in ids]
