"""Two measurements of the same examples: pairs of attacks on one model, and pairs of models of one cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hardscale.analysis.attacked import MODEL, AttackRows, CleanRows, matrix
from hardscale.analysis.points import UNDEFENDED
from hardscale.settings.study_defenses import defenses_that_train_on

CELL = ("task", "family", "scale", "seed")
ROUND_ZERO = "round 0"
_DISCRETE = defenses_that_train_on("discrete", "classifiers")
_CONTINUOUS = defenses_that_train_on("continuous", "classifiers")


@dataclass(frozen=True)
class Comparison:
    """Two binary outcomes of each example of a model (e.g. broken by attack A, by attack B).

    Attributes:
        about: key of :data:`hardscale.analysis.verdict.STATEMENTS`.
        model: task, family, scale, seed, defense and round.
        names: attack, other and position.
        example_ids: ``(n,)``.
        first: ``(n,)`` booleans.
        second: ``(n,)`` booleans, which are subtracted.
        pools: whether the model stands for its cell and defense: it is undefended, or their last round.
    """

    about: str
    model: Mapping[str, Any]
    names: Mapping[str, Any]
    example_ids: np.ndarray
    first: np.ndarray
    second: np.ndarray
    pools: bool


def of_attacks(attacks: Sequence[AttackRows]) -> Iterator[Comparison]:
    """GCG against its no-gradient control and against RandomToken, on the same model and the same examples.

    The control is compared at the last iteration that both ran, RandomToken at equal compute.
    """
    last = _last_rounds(attacks)
    of_model = _grouped(attacks, MODEL)
    for about, wanted, pick in (
        ("gradient", lambda a: a.is_control, _last_common),
        ("random", lambda a: a.is_blind, equal_compute),
    ):
        for first in filter(lambda a: a.is_guided, attacks):
            for second in of_model[tuple(first.model[name] for name in MODEL)]:
                if wanted(second) and first.position == second.position:
                    yield from _pair(about, first, second, pick(first, second), _stands(first.model, last))


def of_iterations(attacks: Sequence[AttackRows]) -> Iterator[Comparison]:
    """The last iteration of an attack against half as many, on undefended models."""
    for attack in attacks:
        half = attack.iterations // 2
        if attack.model["defense"] == UNDEFENDED and half >= 1 and not attack.is_control:
            ids = attack.rows["example_id"].to_numpy()
            names = {"attack": attack.attack, "other": f"iteration {half}", "position": attack.position}
            after, before = attack.success(ids, attack.iterations), attack.success(ids, half)
            yield Comparison("iterations", attack.model, names, ids, after, before, pools=True)


def of_defenses(attacks: Sequence[AttackRows]) -> Iterator[Comparison]:
    """The last round of a defense against round 0, one attack, on examples that both models get right before it."""
    last = _last_rounds(attacks)
    of_cell = _grouped(attacks, CELL)
    for after in attacks:
        if after.model["defense"] == UNDEFENDED or not _stands(after.model, last) or after.model["round"] == 0:
            continue
        before = _round_zero(after, of_cell[tuple(after.model[name] for name in CELL)])
        if before is not None:
            yield from _pair("defense", after, before, _last_common(after, before), True, ROUND_ZERO)


def of_kinds(attacks: Sequence[AttackRows], runs: pd.DataFrame) -> Iterator[Comparison]:
    """Discrete adversarial rounds against continuous training that cost as much or more, after a common attack.

    Of the rounds the last one within the compute of the continuous training's last round is taken; without such a round
    there is no comparison.

    Args:
        attacks: per-example rows.
        runs: the runs schema; ``defense_kind`` and ``defense_flops`` of every model.
    """
    facts = dict(_defense_facts(runs))
    last = _last_rounds(attacks)
    of_cell = _grouped(attacks, CELL)
    for continuous in attacks:
        kind, budget = facts.get(_key(continuous.model), (None, np.nan))
        if kind not in _CONTINUOUS or not _stands(continuous.model, last) or not np.isfinite(budget):
            continue
        within: dict[str, AttackRows] = {}
        for discrete in of_cell[tuple(continuous.model[name] for name in CELL)]:
            kind, cost = facts.get(_key(discrete.model), (None, np.nan))
            affordable = kind in _DISCRETE and discrete.model["round"] >= 1 and cost <= budget * (1 + 1e-9)
            if affordable and _same_attack(discrete, continuous):
                best = within.setdefault(discrete.model["defense"], discrete)
                if discrete.model["round"] > best.model["round"]:
                    within[discrete.model["defense"]] = discrete
        for discrete in within.values():
            other = str(continuous.model["defense"])
            yield from _pair("kinds", discrete, continuous, _last_common(discrete, continuous), True, other)


def of_accuracy(clean: Sequence[CleanRows]) -> Iterator[Comparison]:
    """Clean accuracy after the last round of a defense against round 0, on the examples that both answered."""
    last = _last_rounds(clean)
    base = {tuple(rows.model[name] for name in CELL): rows for rows in clean if rows.model["defense"] == UNDEFENDED}
    for after in clean:
        before = base.get(tuple(after.model[name] for name in CELL))
        if after.model["defense"] == UNDEFENDED or not _stands(after.model, last) or before is None:
            continue
        ids = np.intersect1d(after.correct.index, before.correct.index)
        if len(ids):
            names = {"attack": None, "other": ROUND_ZERO, "position": None}
            first, second = (rows.correct.loc[ids].to_numpy(bool) for rows in (after, before))
            yield Comparison("accuracy", after.model, names, ids, first, second, pools=True)


def equal_compute(first: AttackRows, second: AttackRows) -> tuple[int, int]:
    """For each attack the last iteration within the compute that both spent; 0 when its first is beyond.

    Compute is the mean over the examples of both of ``forward + 2 backward`` tokens: both attacks are on one model, so
    the 2N of the convention cancels.
    """
    ids = np.intersect1d(first.rows["example_id"], second.rows["example_id"])
    spent = [_mean_compute(attack, ids) for attack in (first, second)]
    budget = min(curve[-1] for curve in spent)
    within = [int(np.searchsorted(curve, budget * (1 + 1e-9), side="right")) for curve in spent]
    return within[0], within[1]


def _mean_compute(attack: AttackRows, ids: np.ndarray) -> np.ndarray:
    rows = attack.rows.set_index("example_id").loc[ids]
    forward, backward = (matrix(rows[name], attack.iterations) for name in ("forward_tokens", "backward_tokens"))
    return (forward + 2 * backward).mean(axis=0)


def _last_common(first: AttackRows, second: AttackRows) -> tuple[int, int]:
    """The last iteration (1-based) that both attacks ran."""
    last = min(first.iterations, second.iterations)
    return last, last


def _pair(
    about: str, first: AttackRows, second: AttackRows, at: tuple[int, int], pools: bool, other: str | None = None
) -> Iterator[Comparison]:
    """The comparison on the examples that both attacked, when there are any."""
    ids = np.intersect1d(first.rows["example_id"], second.rows["example_id"])
    if len(ids):
        names = {"attack": first.attack, "other": other or second.attack, "position": first.position}
        yield Comparison(about, first.model, names, ids, first.success(ids, at[0]), second.success(ids, at[1]), pools)


def _grouped(attacks: Iterable[AttackRows], names: Sequence[str]) -> dict[tuple[Any, ...], list[AttackRows]]:
    """Attacks by some facts of their model."""
    groups: dict[tuple[Any, ...], list[AttackRows]] = {}
    for attack in attacks:
        groups.setdefault(tuple(attack.model[name] for name in names), []).append(attack)
    return groups


def _round_zero(after: AttackRows, of_cell: Iterable[AttackRows]) -> AttackRows | None:
    """The same attack on the model that a defense began with: its own round 0, or the undefended model."""
    found = [a for a in of_cell if a.model["round"] == 0 and _same_attack(a, after)]
    own = [a for a in found if a.model["defense"] == after.model["defense"]]
    undefended = [a for a in found if a.model["defense"] == UNDEFENDED]
    return next(iter([*own, *undefended]), None)


def _same_attack(first: AttackRows, second: AttackRows) -> bool:
    return (first.attack, first.position) == (second.attack, second.position)


def _last_rounds(parts: Iterable[AttackRows | CleanRows]) -> dict[tuple[Any, ...], int]:
    """The last round that each attack (or none, of clean rows) met of each defense of each cell."""
    last: dict[tuple[Any, ...], int] = {}
    for part in parts:
        key = _defense_key(part.model)
        last[key] = max(last.get(key, 0), part.model["round"])
    return last


def _stands(model: Mapping[str, Any], last: Mapping[tuple[Any, ...], int]) -> bool:
    return model["round"] == last[_defense_key(model)]


def _defense_key(model: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(model[name] for name in CELL), model["defense"])


def _key(model: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*_defense_key(model), model["round"])


def _defense_facts(runs: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], tuple[str, float]]]:
    columns = [*CELL, "defense", "round"]
    for row in runs.drop_duplicates(columns).itertuples(index=False):
        key = tuple(getattr(row, name) for name in columns)
        yield key, (str(row.defense_kind), float(row.defense_flops) if pd.notna(row.defense_flops) else np.nan)
