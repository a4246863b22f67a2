"""The statements a study is asked to support, each with an estimate, intervals and an outcome.

======================  ==============================================================================  =======
claim                   estimate                                                                        stated
======================  ==============================================================================  =======
gradient_helps          asr of GCG minus its no-gradient control, last common iteration                  > 0
gcg_beats_random_token  asr of GCG minus RandomToken at equal FLOPs by convention                        > 0
more_iterations_help    asr at the last iteration minus at half of them, undefended                      > 0
defense_lowers_asr      asr after the last round minus round 0, last common iteration, examples that     < 0
                        both models get right before the attack
rounds_beat_continuous  asr after discrete rounds minus after continuous training of no less compute     < 0
defense_costs_accuracy  clean accuracy after the last round minus round 0                                < 0
defense_keeps_accuracy  the same                                                                         > -0.02
larger_is_more_robust   slope of log10 odds of asr over log10 parameters ('binomial')                    < 0
======================  ==============================================================================  =======

All but the last are differences on the same examples. There are rows for each model, for the seeds of a cell, for the
scales of a task and for all models of a study (:mod:`hardscale.analysis.pooled`). What a study says are its rows over
all models about models like them: these have one family-wise correction (:mod:`hardscale.analysis.verdict`), and their
outcome follows from the corrected interval. All other rows are uncorrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from hardscale.analysis import verdict
from hardscale.analysis.attacked import MODEL, AttackRows, CleanRows
from hardscale.analysis.claims_of_runs import size_rows, unpaired_rows
from hardscale.analysis.comparisons import Comparison, of_accuracy, of_attacks, of_defenses, of_iterations, of_kinds
from hardscale.analysis.estimands import ALIKE, THESE
from hardscale.analysis.intervals import paired_difference
from hardscale.analysis.points import of_chat, usable, with_round_zero
from hardscale.analysis.pooled import ModelDifference, Pooled, pool
from hardscale.analysis.verdict import STATEMENTS

_str, _f64, _i64 = pa.string(), pa.float64(), pa.int64()
#: Columns of tables/claims.*; ``task``, ``scale``, ``seed`` and ``round`` are null where several are pooled.
CLAIMS = pa.schema(
    [
        *((name, _str) for name in ("claim", "task", "family", "scale")),
        ("seed", _i64),
        *((name, _str) for name in ("defense", "attack", "other")),
        *((name, _f64) for name in ("estimate", "ci_low", "ci_high")),
        ("n", _i64),
        ("holds", pa.bool_()),
        ("round", _i64),
        ("position", _str),
        ("outcome", _str),
        ("interval", _str),
        ("against", _f64),
        ("n_models", _i64),
        ("n_cells", _i64),
        *((name, _f64) for name in ("family_low", "family_high")),
        ("family_size", _i64),
    ]
)
_INTEGERS = [field.name for field in CLAIMS if field.type == _i64]
_NAMES = ("attack", "other", "position")
_COMPARED = ("about", "task", "family", "scale", "seed", "defense", "attack", "position")


def claims(
    runs: pd.DataFrame,
    attacks: Iterable[AttackRows] = (),
    headline: Mapping[str, int] | None = None,
    clean: Sequence[CleanRows] = (),
) -> pd.DataFrame:
    """Every claim that the tables can be asked of classifiers; columns CLAIMS.

    Args:
        runs: rows of the runs schema.
        attacks: per-example rows; without them changes by a defense are compared as if unpaired, attacks not at all.
        headline: entry -> iteration of the size line (:func:`hardscale.analysis.points.at_headline`).
        clean: per-example clean predictions, used of models in ``runs``; without them accuracies are compared as if
            unpaired.
    """
    frame = with_round_zero(usable(runs))
    # An attack on a chat model counts as a success that the target is continued word by word, which no judge has read.
    chat_tasks = set(runs.loc[of_chat(runs), "task"])
    attacks = [attack for attack in attacks if attack.model["task"] not in chat_tasks and len(attack.rows)]
    in_runs = set(runs.loc[~of_chat(runs), list(MODEL)].itertuples(index=False, name=None))
    clean = [rows for rows in clean if tuple(rows.model[name] for name in MODEL) in in_runs]
    compared = [
        *of_attacks(attacks),
        *of_iterations(attacks),
        *of_defenses(attacks),
        *of_kinds(attacks, runs),
        *of_accuracy(clean),
    ]
    found = [row for about in STATEMENTS for row in _compared_rows([one for one in compared if one.about == about])]
    found += unpaired_rows(frame, {_key(row) for row in found})
    controls = {attack.attack for attack in attacks if attack.is_control}
    found += size_rows(frame, headline or {}, controls)
    rows = [row for one in verdict.corrected(found) for row in _stated(one)]
    table = pd.DataFrame(rows, columns=CLAIMS.names)
    table[_INTEGERS] = table[_INTEGERS].astype("Int64")
    return table


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        row.get(name) for name in ("about", "task", "family", "scale", "seed", "defense", "attack", "position")
    )


def _stated(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A measured quantity as the claims about it."""
    corrected = row.get("family_size") is not None
    bounds = ("family_low", "family_high") if corrected else ("ci_low", "ci_high")
    for statement in STATEMENTS[row["about"]]:
        outcome = statement.outcome(row[bounds[0]], row[bounds[1]])
        verdict = {"claim": statement.name, "against": statement.against, "outcome": outcome}
        yield {**dict.fromkeys(CLAIMS.names), **row, **verdict, "holds": outcome == "supported"}


def _compared_rows(compared: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    """Rows of one kind of comparison: each model, seeds of a cell, scales of a task, all."""
    for one in compared:
        value, low, high = paired_difference(one.first, one.second)
        bounds = {"estimate": value, "ci_low": low, "ci_high": high, "n": len(one.first)}
        yield {"about": one.about, **one.model, **one.names, **bounds, "interval": THESE, "n_models": 1, "n_cells": 1}
    for group in _groups(compared, ("task", "family", "scale", "defense", "round")):
        if len(group) > 1:
            yield from _pooled_rows(group, ("seed",))
    standing = [one for one in compared if one.pools]
    for group in _groups(standing, ("family", "defense")):
        tasks = _groups(group, ("task",))
        for of_task in tasks if len(tasks) > 1 else []:
            if len({one.model["scale"] for one in of_task}) > 1:
                yield from _pooled_rows(of_task, ("scale",))
        if len({(one.model["task"], one.model["scale"]) for one in group}) > 1:
            yield from _pooled_rows(group, ("task", "scale"), of_study=True)


def _groups(compared: Sequence[Comparison], keys: Sequence[str]) -> list[list[Comparison]]:
    """Comparisons of the same names and equal in some facts of the model, in the order of their first."""
    groups: dict[tuple[Any, ...], list[Comparison]] = {}
    for one in compared:
        key = (*(one.model[name] for name in keys), *(one.names[name] for name in _NAMES))
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _pooled_rows(group: Sequence[Comparison], cell: Sequence[str], of_study: bool = False) -> Iterator[dict[str, Any]]:
    """Two rows: of these models and, from three cells on, of models like them."""
    found = pool(
        [
            ModelDifference(
                tuple(one.model[name] for name in cell),
                one.model["task"],
                one.example_ids,
                one.first.astype(float) - one.second,
            )
            for one in group
        ]
    )
    common = {name: values.pop() for name in MODEL if len(values := {one.model[name] for one in group}) == 1}
    sizes = {"n": found.n, "n_models": found.n_models, "n_cells": found.n_cells}
    row = {"about": group[0].about, **common, **group[0].names, "estimate": found.estimate, **sizes}
    low, high = found.these_models()
    yield {**row, "interval": THESE, "ci_low": low, "ci_high": high}
    like = found.models_like_them()
    if like is not None:
        like_row = {**row, "interval": ALIKE, "ci_low": like[0], "ci_high": like[1]}
        yield {**like_row, **({verdict.AT_LEVEL: _like_at(found)} if of_study else {})}


def _like_at(found: Pooled) -> verdict.AtLevel:
    """The interval of models like them at any level; there is one."""
    return lambda level: found.models_like_them(level) or (float("nan"), float("nan"))
