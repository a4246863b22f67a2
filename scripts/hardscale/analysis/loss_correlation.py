"""Robustness to continuous attacks against robustness to GCG, over all models of a study."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from hardscale.analysis.correlation import pearson, spearman

_str, _f64 = pa.string(), pa.float64()
#: Columns of tables/correlations.*: of the losses of models under an attack in embedding space and under GCG.
CORRELATIONS = pa.schema(
    [
        *((name, _str) for name in ("task", "attack", "other", "method")),
        *((name, _f64) for name in ("value", "ci_low", "ci_high", "p")),
        ("n_models", pa.int64()),
    ]
)
_METHODS = {"spearman": spearman, "pearson": pearson}
_MODEL = ["task", "family", "scale", "n_params", "seed", "defense", "defense_kind", "round"]


def paired_losses(losses: pd.DataFrame) -> pd.DataFrame:
    """One row a model and attack in embedding space: its loss ``continuous`` and the loss ``gcg``, by ``other``.

    Losses are means over behaviors after the last iteration of either attack. Of several GCG attacks the first by name
    is taken.

    Args:
        losses: rows of tables/losses.
    """
    curve = [*_MODEL, "attack"]
    last = losses.sort_values("iteration", kind="stable").drop_duplicates(curve, keep="last")
    gcg = last[last["attack_kind"] == "gcg"].sort_values("attack", kind="stable").drop_duplicates(_MODEL)
    gcg = gcg[[*_MODEL, "attack", "loss"]].rename(columns={"attack": "other", "loss": "gcg"})
    continuous = last[last["attack_kind"] == "embedding"][[*curve, "eps", "loss"]]
    joined = continuous.rename(columns={"loss": "continuous"}).merge(gcg, on=_MODEL)
    return joined.sort_values(curve, kind="stable", ignore_index=True)


def correlations(losses: pd.DataFrame) -> pd.DataFrame:
    """Rows of CORRELATIONS: Spearman's and Pearson's coefficients over models; intervals where they have one."""
    rows = []
    for (task, attack, other), part in paired_losses(losses).groupby(["task", "attack", "other"], sort=True):
        for method, correlate in _METHODS.items():
            found = correlate(part["continuous"], part["gcg"])
            numbers = {"value": found.value, "ci_low": found.low, "ci_high": found.high, "p": found.p}
            place = {"task": task, "attack": attack, "other": other, "method": method}
            rows.append({**place, **numbers, "n_models": found.n})
    return pd.DataFrame(rows, columns=CORRELATIONS.names)
