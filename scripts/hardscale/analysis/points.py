"""From a table of runs to the points that lines are fitted through; shared by every method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hardscale.analysis.logodds import log10_positive
from hardscale.artifacts.schemas import RUNS
from hardscale.errors import DataError
from hardscale.settings.headline import entry_for

UNDEFENDED = "none"
#: One model's scale under one attack: what an attack-scaling curve belongs to.
CURVE = ["task", "family", "scale", "defense", "round", "attack", "position"]
#: What models are looked at after the same iteration.
_ALIKE = ["task", "family", "defense", "attack", "position"]
#: One model under one attack: what a curve over iterations belongs to.
_ONE_CURVE = [*CURVE, "seed", "attack_seed"]


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
    """Add the undefended rows as round 0 of every defense that the same model has under the same attack.

    A defense that brings its own round 0 keeps it.
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
    """Rows after the one iteration at which their attacks are looked at, in the order that they come in.

    Within a task, family, defense, attack and position that is the iteration of the entry that counts
    (:mod:`hardscale.settings.headline`); models that were not attacked so long are left out, unless no model was.
    Without an entry it is the last iteration that all models share, and each one's own last where they share none.

    Args:
        rows: of any number of attacks.
        headline: entry -> iteration.
    """
    rows = rows[rows["iteration"] >= 1]
    kept = np.zeros(len(rows), bool)
    groups = rows.groupby(_ALIKE, dropna=False).ngroup().to_numpy()
    for number in np.unique(groups):
        places = np.flatnonzero(groups == number)
        kept[places] = _looked_at(rows.iloc[places], headline)
    return rows[kept]


def _looked_at(rows: pd.DataFrame, headline: Mapping[str, int]) -> np.ndarray:
    """Which rows of one attack on the models of one defense are at its headline iteration."""
    task, attack, defense = (str(rows[name].iloc[0]) for name in ("task", "attack", "defense"))
    entry = entry_for(headline, task, attack, defense)
    iterations = rows["iteration"].to_numpy()
    if entry is not None and headline[entry] in iterations:
        return iterations == headline[entry]
    curves = rows.groupby([name for name in _ONE_CURVE if name in rows], dropna=False).ngroup()
    measured = pd.DataFrame({"curve": curves, "iteration": rows["iteration"]}).drop_duplicates()
    n_curves = measured.groupby("iteration")["curve"].nunique()
    shared = n_curves.index[n_curves == curves.nunique()]
    if len(shared):
        return iterations == shared.max()
    return iterations == rows["iteration"].groupby(curves.to_numpy()).transform("max").to_numpy()


def log_attack_share(rows: pd.DataFrame) -> np.ndarray:
    """log10 of attack FLOPs per example over pretraining FLOPs, NaN where unknown."""
    return log10_positive(rows["attack_flops_per_example"]) - log10_positive(rows["pretrain_flops"])


def log_defense_share(rows: pd.DataFrame) -> np.ndarray:
    """log10 of defense FLOPs over pretraining FLOPs, NaN where unknown."""
    return log10_positive(rows["defense_flops"]) - log10_positive(rows["pretrain_flops"])
