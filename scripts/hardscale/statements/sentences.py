"""The sentences that stored runs of a study support, each with its numbers: by rule, from their tables of claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from hardscale.statements.stored import StoredRun

#: What tells the claims over all models of a study apart.
KEY = ("claim", "family", "task", "defense", "attack", "other", "position")
MOST = 4


def _points(low: float, high: float, value: float) -> str:
    """A difference of shares in percentage points with its interval."""
    digits = 1 if abs(value) < 0.1 else 0
    return f"{100 * value:.{digits}f} points [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def _more(row: pd.Series) -> str:
    return _points(row["family_low"], row["family_high"], row["estimate"])


def _less(row: pd.Series) -> str:
    """The same of a fall, as a positive number."""
    return _points(-row["family_high"], -row["family_low"], -row["estimate"])


def _slope(row: pd.Series) -> str:
    return f"{row['estimate']:.2f} [{row['family_low']:.2f}, {row['family_high']:.2f}]"


def _size(row: pd.Series) -> str:
    after = "undefended" if row["defense"] == "none" else f"after `{row['defense']}`"
    return (
        f"Larger models are harder to break, {after}: the log10 odds of success of `{row['attack']}` change by "
        f"{_slope(row)} for ten times the parameters."
    )


#: Claim -> its sentence, in the order in which a README has room for them.
_SENTENCES: dict[str, Callable[[pd.Series], str]] = {
    "defense_lowers_asr": lambda row: (
        f"Training with `{row['defense']}` lowers the success of `{row['attack']}` by {_less(row)}."
    ),
    "rounds_beat_continuous": lambda row: (
        f"After `{row['defense']}` the success of `{row['attack']}` is lower than after `{row['other']}` of no less "
        f"compute, by {_less(row)}."
    ),
    "larger_is_more_robust": _size,
    "gcg_beats_random_token": lambda row: (
        f"`{row['attack']}` breaks more than `{row['other']}` at equal compute{_defended(row)}, by {_more(row)}."
    ),
    "gradient_helps": lambda row: (
        f"The gradient helps: `{row['attack']}` breaks more than the same search without it{_defended(row)}, by "
        f"{_more(row)}."
    ),
    "defense_keeps_accuracy": lambda row: (
        f"Training with `{row['defense']}` costs less than {-100 * row['against']:.0f} points of clean accuracy: it "
        f"changes by {_more(row)}."
    ),
    "more_iterations_help": lambda row: (
        f"More attack compute helps: `{row['attack']}` breaks more than at {row['other']}, half of its last, by "
        f"{_more(row)}."
    ),
    "defense_costs_accuracy": lambda row: f"Training with `{row['defense']}` costs {_less(row)} of clean accuracy.",
}


def _defended(row: pd.Series) -> str:
    return "" if row["defense"] == "none" else f", after `{row['defense']}` too"


def over_models(run: StoredRun) -> pd.DataFrame:
    """What a run says of models like its own: one row a claim, the family that is corrected as a whole."""
    if "family_size" not in run.claims.columns:
        return run.claims.iloc[:0]
    return run.claims[run.claims["family_size"].notna()]


def key(row: pd.Series) -> tuple[Any, ...]:
    """What names a claim in every run of its study."""
    return tuple(None if pd.isna(row[name]) else row[name] for name in KEY)


def supported(runs: Sequence[StoredRun]) -> list[pd.Series]:
    """Claims over models that every run supports, with the numbers of the first run, in the order of the table."""
    if not runs:
        return []
    held = [{key(row) for _, row in over_models(run).iterrows() if row["outcome"] == "supported"} for run in runs]
    everywhere = set.intersection(*held)
    return [row for _, row in over_models(runs[0]).iterrows() if key(row) in everywhere]


def sentence(row: pd.Series) -> str:
    """A claim as a sentence with its numbers: those of the corrected interval."""
    return _SENTENCES[row["claim"]](row)


def chosen(runs: Sequence[StoredRun], most: int = MOST) -> list[pd.Series]:
    """Of the supported claims at most one of each kind, undefended models first, in the order of the sentences."""
    rows = supported(runs)
    found = []
    for claim in _SENTENCES:
        of_claim = sorted((row for row in rows if row["claim"] == claim), key=lambda row: row["defense"] != "none")
        found += of_claim[:1]
    return found[:most]
