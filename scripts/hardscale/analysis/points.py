"""From a table of runs to the points that lines are fitted through; shared by every method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hardscale.analysis.logodds import log10_positive
from hardscale.artifacts.schemas import RUNS
from hardscale.errors import DataError

UNDEFENDED = "none"
#: One model's scale under one attack: what an attack-scaling curve belongs to.
CURVE = ["task", "family", "scale", "defense", "round", "attack", "position"]


def of_chat(runs: pd.DataFrame) -> pd.Series:
    """Whether each row is of a chat model, whose replies a judge has read: a rate of its own kind."""
    return runs["judge"].notna() if "judge" in runs.columns else pd.Series(False, index=runs.index)


def usable(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of runs that carry an attack success rate of a classifier, with its counts.

    Rows of chat models are left out: no line over sizes, rounds or compute is fitted through what a judge decided.
    Nullable columns that are missing are added as NaN; ``n_success`` is ``asr * n_attacked`` where it is null. Rows
    come back in a fixed order, so that sums do not depend on the order of the file.

    Raises:
        DataError: a required column is missing, or a rate or count is impossible.
    """
    return counted(runs[~of_chat(runs)])


def counted(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows with an attack success rate and their counts, of whatever model; see :func:`usable`.

    Raises:
        DataError: a required column is missing, or a rate or count is impossible.
    """
    missing = [field.name for field in RUNS if not field.nullable and field.name not in runs.columns]
    if missing:
        raise DataError(f"runs: missing column(s) {', '.join(missing)}; give a table of the runs schema")
    frame = runs.copy()
    for field in RUNS:
        if field.name not in frame.columns:
            frame[field.name] = np.nan
    for name in ("asr", "n_success", "attack_flops_per_example", "defense_flops", "pretrain_flops"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    frame = frame[np.isfinite(frame["asr"]) & (frame["n_attacked"] > 0)]
    frame = frame.sort_values([*CURVE, "n_params", "seed", "iteration", "asr"], kind="stable", ignore_index=True)
    frame["n_success"] = frame["n_success"].fillna((frame["asr"] * frame["n_attacked"]).round())
    wrong = frame[~frame["asr"].between(0, 1) | ~frame["n_success"].between(0, frame["n_attacked"])]
    if len(wrong):
        row = wrong.iloc[0]
        raise DataError(
            f"runs: {row['task']}/{row['family']}/{row['scale']}/s{row['seed']} {row['attack']} iteration "
            f"{row['iteration']}: asr {row['asr']}, n_success {row['n_success']} of {row['n_attacked']}; "
            "allowed are rates in 0..1 and counts up to n_attacked"
        )
    return frame


def with_round_zero(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the undefended rows as round 0 of every defence that the same model has under the same attack.

    A defence that brings its own round 0 keeps it.
    """
    keys = ["task", "family", "scale", "seed", "attack", "position"]
    defended = frame[frame["defense"] != UNDEFENDED]
    own = defended[defended["round"] == 0][[*keys, "defense"]].drop_duplicates()
    wanted = defended[[*keys, "defense", "defense_kind"]].drop_duplicates([*keys, "defense"])
    wanted = wanted.merge(own, how="left", on=[*keys, "defense"], indicator="_own")
    wanted = wanted[wanted["_own"] == "left_only"].drop(columns="_own")
    base = frame[(frame["defense"] == UNDEFENDED) & (frame["round"] == 0)].drop(columns=["defense", "defense_kind"])
    joined = base.merge(wanted, on=keys)
    if joined.empty:
        return frame
    return pd.concat([frame, joined[frame.columns]], ignore_index=True)


def at_headline(rows: pd.DataFrame, headline: Mapping[str, int]) -> pd.DataFrame:
    """Rows of one attack at its headline iteration; at its last one when it has no headline or never got there."""
    iterations = set(rows.loc[rows["iteration"] >= 1, "iteration"])
    if not iterations:
        return rows.iloc[:0]
    wanted = headline.get(str(rows["attack"].iloc[0]))
    return rows[rows["iteration"] == (wanted if wanted in iterations else max(iterations))]


def log_attack_share(rows: pd.DataFrame) -> np.ndarray:
    """log10 of attack FLOPs per example over pretraining FLOPs, NaN where unknown."""
    return log10_positive(rows["attack_flops_per_example"]) - log10_positive(rows["pretrain_flops"])


def log_defense_share(rows: pd.DataFrame) -> np.ndarray:
    """log10 of defence FLOPs over pretraining FLOPs, NaN where unknown."""
    return log10_positive(rows["defense_flops"]) - log10_positive(rows["pretrain_flops"])
