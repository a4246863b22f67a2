"""A table to read: clean accuracy and attack success of every scale before and after its defenses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hardscale.analysis.estimands import ALIKE, ENOUGH_SEEDS
from hardscale.analysis.intervals import Estimate
from hardscale.analysis.points import at_headline, of_chat
from hardscale.analysis.shares import share_of_these, share_of_typical
from hardscale.untrusted import literal

_SHARE = re.compile(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]")
_LIKE_THEM = f"asr of {ALIKE}"
_KEYS = ["task", "family", "scale", "n_params"]


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
