"""Every line of a study: five kinds, two methods, one table (schema FITS)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from hardscale.analysis import fits_binomial, fits_published
from hardscale.analysis.line import LineFit, no_line
from hardscale.analysis.points import CURVE, UNDEFENDED, at_headline, usable, with_round_zero
from hardscale.artifacts.schemas import FITS
from hardscale.errors import DataError

_ACROSS_SCALES = [name for name in CURVE if name != "scale"]
_ACROSS_ROUNDS = [name for name in CURVE if name != "round"]
_FEWEST_ROUNDS = 2


class Method(Protocol):
    """What a method of fitting offers: one function a kind of line."""

    METHOD: str

    def attack_scaling(self, rows: pd.DataFrame) -> LineFit: ...  # noqa: D102

    def size(self, rows: pd.DataFrame) -> LineFit: ...  # noqa: D102

    def defense_scaling(self, rows: pd.DataFrame) -> LineFit: ...  # noqa: D102

    def offense_defense(self, rows: pd.DataFrame, target: float) -> LineFit: ...  # noqa: D102

    def slope_of_slopes(  # noqa: D102
        self, n_params: Sequence[float], fits: Sequence[LineFit], rows: pd.DataFrame
    ) -> LineFit: ...


METHODS: tuple[Method, ...] = (fits_published, fits_binomial)


def fit_all(runs: pd.DataFrame, headline: Mapping[str, int], target_asr: Sequence[float]) -> pd.DataFrame:
    """Every line that a table of runs allows.

    Round 0, which exists once as the undefended model, is round 0 of every defense too. A line that has fewer than two
    usable points is a row with a null slope that tells how many points there were.

    Args:
        runs: rows of the runs schema; nullable columns may be missing, rows with a null ``asr`` are left out.
        headline: ``[TASK/]ATTACK[@DEFENSE]`` -> iteration of the lines over sizes and over defense compute; without an
            entry the last one (:func:`hardscale.analysis.points.at_headline`).
        target_asr: success rates of the offense-defense lines.

    Returns:
        Rows of schema FITS, in a fixed order. ``size`` has one row for each task, family, defense, round, attack and
        position; ``slope_of_slopes`` likewise; ``attack_scaling`` one for each scale of those; ``defense_scaling`` and
        ``offense_defense`` one for each scale of a defense (and target), over its rounds.

    Raises:
        DataError: a required column is missing, or a number is impossible.
    """
    bad = [target for target in target_asr if not 0 < target < 1]
    if bad:
        raise DataError(f"target_asr: {bad[0]}; allowed are rates between 0 and 1")
    frame = with_round_zero(usable(runs))
    rows = [row for method in METHODS for row in _rows(frame, method, headline, target_asr)]
    order = {field.name: i for i, field in enumerate(FITS)}
    table = pd.DataFrame(rows, columns=list(order))
    for name in ("round", "n_points", "n_seeds"):
        table[name] = table[name].astype("Int64")
    keys = ["kind", "task", "family", "scale", "defense", "round", "attack", "position", "target_asr"]
    return table.sort_values([*keys, "method"], na_position="first", kind="stable").reset_index(drop=True)


def _rows(
    frame: pd.DataFrame, method: Method, headline: Mapping[str, int], target_asr: Sequence[float]
) -> Iterator[dict[str, Any]]:
    for key, rows in _groups(frame, _ACROSS_SCALES):
        curves = [(group["n_params"].iloc[0], k, method.attack_scaling(group)) for k, group in _groups(rows, CURVE)]
        for _, curve_key, fit in curves:
            yield _row("attack_scaling", curve_key, method, fit)
        yield _row("size", key, method, method.size(at_headline(rows, headline)))
        steepness = method.slope_of_slopes([n for n, _, _ in curves], [fit for _, _, fit in curves], rows)
        yield _row("slope_of_slopes", key, method, steepness)
    defended = frame[(frame["defense"] != UNDEFENDED) & (frame["round"] >= 1)]
    for key, rows in _groups(defended, _ACROSS_ROUNDS):
        last = at_headline(rows, headline)
        # Seeds of one round differ in compute only by the lengths of their prompts: no line is to be read off that.
        enough = rows["round"].nunique() >= _FEWEST_ROUNDS
        yield _row("defense_scaling", key, method, method.defense_scaling(last) if enough else no_line(last))
        for target in target_asr:
            fit = method.offense_defense(rows, target) if enough else no_line(last)
            yield _row("offense_defense", {**key, "target_asr": target}, method, fit)


def _groups(frame: pd.DataFrame, keys: list[str]) -> Iterable[tuple[dict[str, Any], pd.DataFrame]]:
    for values, rows in frame.groupby(keys, dropna=False):
        yield dict(zip(keys, values, strict=True)), rows


def _row(kind: str, key: Mapping[str, Any], method: Method, fit: LineFit) -> dict[str, Any]:
    return {
        **key,
        "kind": kind,
        "method": method.METHOD,
        "slope": fit.slope,
        "intercept": fit.intercept,
        "ci_low": fit.ci_low,
        "ci_high": fit.ci_high,
        "n_points": fit.n_points,
        "n_seeds": fit.n_seeds,
        "estimand": fit.estimand,
    }
