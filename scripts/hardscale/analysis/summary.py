"""A table to read: clean accuracy and attack success of every scale before and after its defenses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from hardscale.analysis.estimands import ALIKE, ENOUGH_SEEDS
from hardscale.analysis.intervals import Estimate
from hardscale.analysis.points import at_headline, of_chat
from hardscale.errors import DataError
from hardscale.untrusted import literal

_SHARE = re.compile(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]")
_LIKE_THEM = f"asr of {ALIKE}"
_KEYS = ["task", "family", "scale", "n_params"]


#: Correlation of success on one example between two seeds of a cell: what is hard for one is harder for the other.
SHARED_HARDNESS = 0.08
#: The same where it widens what Student's quantile has widened already.
SHARED_IN_ODDS = 0.04


def summary_table(runs: pd.DataFrame, headline: Mapping[str, int] | None = None) -> pd.DataFrame:
    """One row per task, scale, defense, round and attack at its headline iteration, the mean over seeds.

    ``asr``, ``clean`` and ``refused`` come with 95 % intervals for these very models, from drawing examples alone; how
    another seed would come out they do not say. Where a cell has five seeds or more, ``asr of models like them`` is the
    rate of the median model of those that seeds are drawn from. With chat models there are two more columns:
    ``judge``, a row each, and ``refused``, the share of requests that are not complied with before the attack.
    """
    chat = of_chat(runs)
    keys = [*_KEYS, "defense", "round", "attack", *(["judge"] if chat.any() else [])]
    runs = runs.assign(judge=runs["judge"].fillna("–")) if chat.any() else runs
    first = runs[chat.to_numpy(bool) & (runs["iteration"] == 0).to_numpy(bool)]
    refused = {key: _refused(group) for key, group in first.groupby(keys)} if chat.any() else {}
    last = at_headline(runs, headline or {})
    many = bool((last.groupby(keys)["seed"].nunique() >= ENOUGH_SEEDS).any())
    rows = []
    for key, group in last.groupby(keys, sort=False):
        clean = (group["clean_accuracy"] * group["n_clean_examples"]).round()
        row = {
            **dict(zip(keys, key, strict=True)),
            "iteration": int(group["iteration"].max()),
            "seeds": int(group["seed"].nunique()),
            "clean": _share(clean, group["n_clean_examples"]),
            **({"refused": refused.get(key, "–")} if chat.any() else {}),
            "asr": _share(group["n_success"], group["n_attacked"]),
            **({_LIKE_THEM: _typical(group)} if many else {}),
            "n_attacked": int(group["n_attacked"].sum()),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _refused(rows: pd.DataFrame) -> str:
    """Requests that were not complied with."""
    return _share(rows["n_attacked"] - rows["n_success"], rows["n_attacked"])


def _share(k: pd.Series, n: pd.Series) -> str:
    """Mean rate of these models."""
    k, n = _known(k, n)
    return "–" if not len(n) else _shown_share(share_of_these(k, n))


def _typical(rows: pd.DataFrame) -> str:
    """Rate of the median model like these."""
    k, n = _known(rows["n_success"], rows["n_attacked"])
    found = share_of_typical(k, n) if len(n) else None
    return "–" if found is None else _shown_share(found)


def _known(k: pd.Series, n: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    known = (k.notna() & n.notna() & (n > 0)).to_numpy(bool)
    return k[known].to_numpy(float), n[known].to_numpy(float)


def _shown_share(share: Estimate) -> str:
    value, low, high = share
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def markdown(frame: pd.DataFrame) -> str:
    """The table in GitHub's Markdown, cell text escaped."""
    header = "| " + " | ".join(frame.columns) + " |"
    rule = "|" + " --- |" * len(frame.columns)
    lines = ["| " + " | ".join(map(_shown, row)) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([header, rule, *lines]) + "\n"


def _shown(value: Any) -> str:
    """A cell: shares with their intervals as :func:`_share` writes them, other text escaped."""
    return value if isinstance(value, str) and _SHARE.fullmatch(value) else literal.markdown(str(value))


def share_of_these(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean over models of their success rates, with an interval from drawing examples alone.

    Examples are drawn within models, so that how models differ is no noise: the variance of the mean is
    ``f sum_s p_s (1 - p_s) / n_s / S^2`` (``p_s`` with half a success and half a failure added), not that of pooled
    counts.
    Models are mostly attacked on the same examples and some examples are hard for all: ``f = 1 + (S - 1) c`` with
    ``c`` = :data:`SHARED_HARDNESS`. The interval is Wilson's with the number of examples that gives this variance; for
    one model, Wilson's own.

    Args:
        k: ``(s,)`` successes of each model.
        n: ``(s,)`` examples of each model, all positive.
        level: confidence level.

    Raises:
        DataError: no model, or one without examples.
    """
    successes, trials = _counts(k, n)
    models = len(trials)
    mean = float(np.mean(successes / trials))
    smoothed = (successes + 0.5) / (trials + 1)
    factor = 1 + (models - 1) * SHARED_HARDNESS
    variance = factor * float(np.sum(smoothed * (1 - smoothed) / trials)) / models**2
    center = float(smoothed.mean())
    effective = center * (1 - center) / variance if models > 1 else float(trials[0])
    z = float(norm.ppf(0.5 + level / 2))
    middle = (mean + z**2 / 2 / effective) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * np.sqrt(mean * (1 - mean) / effective + z**2 / 4 / effective**2)
    return mean, max(0.0, float(middle - half)), min(1.0, float(middle + half))


def share_of_typical(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> Estimate | None:
    """Success rate of the median model of those that these seeds are drawn from: mean log odds, Student's t over seeds.

    Log odds have half a success and half a failure added. To their variance comes the part of the examples' that seeds
    share (:data:`SHARED_IN_ODDS`) and that their differences do not show.

    Returns:
        rate and bounds; None below :data:`~hardscale.analysis.estimands.ENOUGH_SEEDS` models, and where more than half
        of the models are within one success of 0 or of all: their log odds are not measured.
    """
    successes, trials = _counts(k, n)
    flat = (successes <= 1) | (successes >= trials - 1)
    if len(trials) < ENOUGH_SEEDS or flat.mean() > 0.5:
        return None
    odds = logit((successes + 0.5) / (trials + 1))
    p = expit(odds)
    shared = SHARED_IN_ODDS * np.mean(1 / np.sqrt(trials * p * (1 - p))) ** 2
    between = odds.var(ddof=1) / len(odds)
    t, z = student.ppf(0.5 + level / 2, len(odds) - 1), norm.ppf(0.5 + level / 2)
    half = np.sqrt(t**2 * between + z**2 * shared)
    value, low, high = (float(expit(odds.mean() + d)) for d in (0.0, -half, half))
    return value, low, high


def _counts(k: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    successes, trials = np.asarray(k, dtype=float), np.asarray(n, dtype=float)
    if successes.shape != trials.shape or successes.ndim != 1 or not len(trials) or not (trials > 0).all():
        raise DataError(f"rate over models: found {trials.tolist()} examples; every model needs at least one")
    return successes, trials
