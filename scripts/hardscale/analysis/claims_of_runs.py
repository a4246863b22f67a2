"""Claims from the table of runs alone: slopes over sizes, and changes by a defense whose examples are not at hand."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from hardscale.analysis import family, fits_binomial
from hardscale.analysis.comparisons import ROUND_ZERO
from hardscale.analysis.estimands import ENOUGH_SCALES
from hardscale.analysis.intervals import independent_difference
from hardscale.analysis.points import UNDEFENDED, at_headline
from hardscale.analysis.verdict import UNPAIRED

_CURVE = ["task", "family", "scale", "seed", "defense", "attack", "position"]
_LINE = ["task", "family", "defense", "round", "attack", "position"]


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
    """Slopes over sizes: one a task, defense, round and attack, and their mean over tasks at the last round.

    Models of one scale share a pretrained model over all tasks, so the slopes of tasks are not independent. The mean's
    half-width is the mean of their half-widths, which is right when tasks move together and too wide otherwise.

    Args:
        frame: usable runs with round 0 in every defense.
        headline: entry -> iteration (:func:`hardscale.analysis.points.at_headline`).
        controls: attacks that no study is about, which are left out of means over tasks.
    """
    rows: list[dict[str, Any]] = []
    standing: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for values, points in frame.groupby(_LINE):
        fit = fits_binomial.size(at_headline(points, headline))
        if fit.slope is None or fit.ci_low is None or fit.ci_high is None:
            continue
        place = dict(zip(_LINE, values, strict=True))
        counts = {"n": fit.n_points, "n_models": fit.n_points, "n_cells": int(points["n_params"].nunique())}
        bounds = {"estimate": fit.slope, "ci_low": fit.ci_low, "ci_high": fit.ci_high}
        rows.append({"about": "size", **place, "other": "n_params", "interval": fit.estimand, **bounds, **counts})
        defended = place["defense"] != UNDEFENDED
        if counts["n_cells"] >= ENOUGH_SCALES and place["attack"] not in controls and (place["round"] > 0) == defended:
            key = tuple(place[name] for name in ("family", "defense", "attack", "position"))
            of_tasks = standing.setdefault(key, {})
            if place["round"] >= of_tasks.get(place["task"], place)["round"]:
                of_tasks[place["task"]] = rows[-1]
    for of_tasks in standing.values():
        members = list(of_tasks.values())
        if len(members) > 1:
            rows.append(_mean_slope(members))
        else:
            members[0][family.AT_LEVEL] = _at_level(members)
    return rows


def _mean_slope(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over tasks of slopes."""
    common = {name: rows[0][name] if len({row[name] for row in rows}) == 1 else None for name in ("task", "round")}
    counts = {name: sum(row[name] for row in rows) for name in ("n", "n_models", "n_cells")}
    at = _at_level(rows)
    low, high = at(family.LEVEL)
    bounds = {"estimate": (low + high) / 2, "ci_low": low, "ci_high": high}
    return {**rows[0], **common, **bounds, **counts, family.AT_LEVEL: at}


def _at_level(rows: list[dict[str, Any]]) -> family.AtLevel:
    """Interval of a mean slope at any level, from the 95 % intervals of its tasks.

    These are Student's with scales - 2 degrees of freedom (:mod:`hardscale.analysis.meta`); the fewest of them widen
    the mean most at a higher level.
    """
    estimate = float(np.mean([row["estimate"] for row in rows]))
    half = float(np.mean([(row["ci_high"] - row["ci_low"]) / 2 for row in rows]))
    degrees = min(row["n_cells"] for row in rows) - 2

    def at(level: float) -> tuple[float, float]:
        wider = half * float(student.ppf(0.5 + level / 2, degrees) / student.ppf(0.975, degrees))
        return estimate - wider, estimate + wider

    return at
