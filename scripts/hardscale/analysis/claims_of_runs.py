"""Claims from the table of runs alone: slopes over sizes, and changes by a defense whose examples are not at hand."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import t as student

from hardscale.analysis import fits_binomial, verdict
from hardscale.analysis.comparisons import ROUND_ZERO
from hardscale.analysis.estimands import ALIKE, ENOUGH_SCALES
from hardscale.analysis.intervals import Estimate, independent_difference
from hardscale.analysis.logodds import LN10, log10_positive
from hardscale.analysis.meta import meta_line
from hardscale.analysis.points import UNDEFENDED, at_headline
from hardscale.analysis.verdict import UNPAIRED

_CURVE = ["task", "family", "scale", "seed", "defense", "attack", "position"]
_LINE = ["task", "family", "defense", "round", "attack", "position"]
#: What a study's claim about sizes is about.
_STUDY = ("family", "defense", "attack", "position")


def unpaired_rows(frame: pd.DataFrame, known: Collection[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Success and clean accuracy after the last round of a defense against round 0, from counts alone.

    Newcombe's interval for two independent shares. The examples are largely the same, and what is hard for one model
    is mostly hard for the other, so it is too wide rather than too short; its rows say ``unpaired``.

    Args:
        frame: usable runs with round 0 in every defense.
        known: (about, task, family, scale, seed, defense, attack, position) of pairs that were compared by example.
    """
    done = set()
    for values, rows in frame[frame["defense"] != UNDEFENDED].groupby(_CURVE):
        key = dict(zip(_CURVE, values, strict=True))
        last = int(rows["round"].max())
        before, after = rows[rows["round"] == 0], rows[rows["round"] == last]
        common = sorted(set(before["iteration"]) & set(after["iteration"]))
        if last == 0 or not common or common[-1] == 0:
            continue
        old, new = (part[part["iteration"] == common[-1]].iloc[0] for part in (before, after))
        place = {**key, "round": last, "other": ROUND_ZERO, "interval": UNPAIRED, "n_models": 1, "n_cells": 1}
        if ("defense", *values) not in known:
            counts = int(new["n_success"]), int(new["n_attacked"]), int(old["n_success"]), int(old["n_attacked"])
            yield {**place, "about": "defense", **_difference(*counts)}
        cell = ("accuracy", *values[:5], None, None)
        if cell not in known and cell not in done and np.isfinite([new["clean_accuracy"], old["clean_accuracy"]]).all():
            done.add(cell)
            yield {
                **place,
                "about": "accuracy",
                "attack": None,
                "position": None,
                **_difference(*_clean(new), *_clean(old)),
            }


def _difference(k_new: int, n_new: int, k_old: int, n_old: int) -> dict[str, Any]:
    value, low, high = independent_difference(k_new, n_new, k_old, n_old)
    return {"estimate": value, "ci_low": low, "ci_high": high, "n": n_new}


def _clean(row: pd.Series) -> tuple[int, int]:
    n = int(row["n_examples"] if pd.isna(row["n_clean_examples"]) else row["n_clean_examples"])
    return round(float(row["clean_accuracy"]) * n), n


def size_rows(frame: pd.DataFrame, headline: Mapping[str, int], controls: Collection[str]) -> list[dict[str, Any]]:
    """Slopes over sizes: one a task, defense, round and attack, and one of all tasks together at the last round.

    Args:
        frame: usable runs with round 0 in every defense.
        headline: entry -> iteration (:func:`hardscale.analysis.points.at_headline`).
        controls: attacks that no study is about, which stay out of what is said of all tasks.
    """
    rows: list[dict[str, Any]] = []
    standing: dict[tuple[Any, ...], dict[str, _Line]] = {}
    for values, of_line in frame.groupby(_LINE):
        points = at_headline(of_line, headline)
        fit = fits_binomial.size(points)
        if fit.slope is None or fit.ci_low is None or fit.ci_high is None:
            continue
        place = dict(zip(_LINE, values, strict=True))
        bounds = {"estimate": fit.slope, "ci_low": fit.ci_low, "ci_high": fit.ci_high}
        rows.append(
            {"about": "size", **place, "other": "n_params", "interval": fit.estimand, **bounds, **_sizes(points)}
        )
        defended = place["defense"] != UNDEFENDED
        if fit.estimand == ALIKE and place["attack"] not in controls and (place["round"] > 0) == defended:
            of_tasks = standing.setdefault(tuple(place[name] for name in _STUDY), {})
            if place["task"] not in of_tasks or place["round"] >= of_tasks[place["task"]].row["round"]:
                of_tasks[place["task"]] = _Line(rows[-1], points)
    for of_tasks in standing.values():
        rows += _over_tasks(list(of_tasks.values()))
    return rows


@dataclass(frozen=True)
class _Line:
    """A task's slope and the points that it goes through."""

    row: dict[str, Any]
    points: pd.DataFrame


def _sizes(points: pd.DataFrame) -> dict[str, int]:
    cells = points[["task", "n_params"]].drop_duplicates()
    return {"n": len(points), "n_models": len(points), "n_cells": len(cells)}


def _over_tasks(lines: list[_Line]) -> list[dict[str, Any]]:
    """The row of several tasks together, when they have enough scales in common; a lone task's row stands for all."""
    if len(lines) == 1:
        lines[0].row[verdict.AT_LEVEL] = _at_level(lines[0].row)
        return []
    points = shared_scales(pd.concat([line.points for line in lines], ignore_index=True))
    if points["n_params"].nunique() < ENOUGH_SCALES:
        return []
    first = lines[0].row
    rounds = {line.row["round"] for line in lines}
    place = {**first, "task": None, "round": rounds.pop() if len(rounds) == 1 else None, **_sizes(points)}
    slope, low, high = size_over_tasks(points)
    bounds = {"estimate": slope, "ci_low": low, "ci_high": high}
    return [{**place, **bounds, verdict.AT_LEVEL: lambda level: size_over_tasks(points, level)[1:]}]


def _at_level(row: dict[str, Any]) -> verdict.AtLevel:
    """Interval of a slope at any level from its 95 % one, which is Student's with scales - 2 degrees of freedom."""
    estimate, half, degrees = row["estimate"], (row["ci_high"] - row["ci_low"]) / 2, row["n_cells"] - 2

    def at(level: float) -> tuple[float, float]:
        wider = half * float(student.ppf(0.5 + level / 2, degrees) / student.ppf(0.975, degrees))
        return estimate - wider, estimate + wider

    return at


def size_over_tasks(rows: pd.DataFrame, level: float = 0.95) -> Estimate:
    """Slope of log10 odds over log10 parameters, and its interval.

    Args:
        rows: ``task n_params n_success n_attacked``, one a model, of scales that all tasks have; three scales or more.
        level: of the interval.
    """
    k, n = rows["n_success"].to_numpy(float), rows["n_attacked"].to_numpy(float)
    p = (k + 0.5) / (n + 1)
    models = rows[["task", "n_params"]].assign(y=logit(p) / LN10, v=1 / (n * p * (1 - p)) / LN10**2)
    cells = models.groupby(["n_params", "task"]).agg(y=("y", "mean"), v=("v", "sum"), seeds=("v", "size"))
    cells["v"] /= cells["seeds"] ** 2
    scales = cells.groupby("n_params").agg(y=("y", "mean"), v=("v", "sum"), tasks=("v", "size"))
    x = log10_positive(scales.index.to_numpy(float))
    line = meta_line(np.asarray(x), scales["y"].to_numpy(), (scales["v"] / scales["tasks"] ** 2).to_numpy(), level)
    return line.slope, line.slope - line.half, line.slope + line.half


def shared_scales(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of scales that all tasks have."""
    tasks = rows.groupby("n_params")["task"].nunique()
    return rows[rows["n_params"].isin(tasks.index[tasks == rows["task"].nunique()])]
