"""A table to read: clean accuracy and attack success of every scale before and after its defences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from hardscale import literal
from hardscale.analysis.points import at_headline, of_chat

_SHARE = re.compile(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]")
_KEYS = ["task", "family", "scale", "n_params"]


def summary_table(runs: pd.DataFrame, headline: Mapping[str, int] | None = None) -> pd.DataFrame:
    """One row per task, scale, defence, round and attack at its headline iteration, seeds pooled.

    ``asr`` and ``clean`` come with 95 % Wilson intervals that treat examples of all seeds as independent. With chat
    models there are two more columns: ``judge``, a row each, and ``refused``, the share of requests that are not
    complied with before the attack.
    """
    chat = of_chat(runs)
    keys = [*_KEYS, "defense", "round", "attack", *(["judge"] if chat.any() else [])]
    runs = runs.assign(judge=runs["judge"].fillna("–")) if chat.any() else runs
    first = runs[chat.to_numpy(bool) & (runs["iteration"] == 0).to_numpy(bool)]
    refused = {key: _refused(group) for key, group in first.groupby(keys)} if chat.any() else {}
    rows = []
    for key, group in at_headline(runs, headline or {}).groupby(keys, sort=False):
        attacked, successes = int(group["n_attacked"].sum()), group["n_success"].sum(min_count=1)
        clean_n = int(group["n_clean_examples"].sum())
        clean_k = round(float((group["clean_accuracy"] * group["n_clean_examples"]).sum()))
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "iteration": int(group["iteration"].max()),
                "seeds": int(group["seed"].nunique()),
                "clean": _share(clean_k, clean_n),
                **({"refused": refused.get(key, "–")} if chat.any() else {}),
                "asr": "–" if pd.isna(successes) or not attacked else _share(int(successes), attacked),
                "n_attacked": attacked,
            }
        )
    return pd.DataFrame(rows)


def _refused(rows: pd.DataFrame) -> str:
    """Requests that were not complied with."""
    attacked, complied = int(rows["n_attacked"].sum()), int(rows["n_success"].sum())
    return _share(attacked - complied, attacked)


def _share(k: int, n: int) -> str:
    if n == 0:
        return "–"
    low, high = proportion_confint(k, n, method="wilson")
    return f"{k / n:.3f} [{low:.3f}, {high:.3f}]"


def markdown(frame: pd.DataFrame) -> str:
    """The table in GitHub's Markdown, cell text escaped."""
    header = "| " + " | ".join(frame.columns) + " |"
    rule = "|" + " --- |" * len(frame.columns)
    lines = ["| " + " | ".join(map(_shown, row)) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([header, rule, *lines]) + "\n"


def _shown(value: Any) -> str:
    """A cell: shares with their intervals as :func:`_share` writes them, other text escaped."""
    return value if isinstance(value, str) and _SHARE.fullmatch(value) else literal.markdown(str(value))
