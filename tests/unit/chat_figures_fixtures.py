"""A made-up study of a chat model: the base, continuous defenses over radii and strengths, baselines, R2D2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from figures_fixtures import make_runs, table
from statsmodels.stats.proportion import proportion_confint

from hardscale.analysis.cost import COST
from hardscale.artifacts.schemas import RUNS
from hardscale.evaluation.chat_tables import LOSSES, UTILITIES, WORST

#: Name, kind, radius, strength, robustness (0 to 1), FLOPs.
DEFENSES: tuple[tuple[str, str, float | None, float | None, float, float | None], ...] = (
    ("none", "none", None, None, 0.0, 0.0),
    ("r2d2", "r2d2", None, None, 0.75, 4e17),
    ("c-advul", "c_advul", 0.05, None, 0.6, 1.1e15),
    ("refusal-sft", "c_advul", None, None, 0.15, 1.2e14),
    ("ipo-0.02", "c_advipo", 0.02, 0.25, 0.45, 2.4e15),
    ("ipo-0.05", "c_advipo", 0.05, 0.25, 0.7, 2.4e15),
    ("ipo-0.2", "c_advipo", 0.2, 0.25, 0.95, 2.4e15),
    ("ipo-beta-0.1", "c_advipo", 0.05, 0.1, 0.85, 2.4e15),
    ("ipo-no-attack", "c_advipo", None, 0.25, 0.05, 2.0e14),
)
BROKEN = "ipo-0.2"
ATTACKS = {"gcg": "gcg", "autodan": "autodan", "pair": "pair", "prefill": "prefill", "bounded": "embedding"}
ATTACKS |= {"embedding": "embedding"}
EPS = {"bounded": 0.05}
CELL = {"study": "chat", "task": "behaviors", "family": "smollm2", "scale": "135m", "n_params": 134_515_008}


def some(names: Sequence[str]) -> list[tuple[str, str, float | None, float | None, float, float | None]]:
    return [item for item in DEFENSES if item[0] in names]


def make_chat_runs(
    defenses: Sequence[Any] = DEFENSES,
    attacks: Sequence[str] = tuple(ATTACKS),
    n: int = 40,
    judges: Sequence[str] = ("rules-prefix", "target-likelihood"),
    **cell: Any,
) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for name, kind, _, _, strength, flops in defenses:
        for attack in attacks:
            ease = {"gcg": 0.55, "autodan": 0.7, "pair": 0.5, "prefill": 0.65, "bounded": 0.8}.get(attack, 1.0)
            for step in (0, 20):
                for i, judge in enumerate(judges):
                    p = 0.12 * (1 - strength) if step == 0 else ease * (1 - 0.97 * strength)
                    p = 0.97 if attack == "embedding" and step else p
                    k = int(rng.binomial(n, p)) if i == 0 else n
                    rows.append(
                        {
                            **CELL,
                            "seed": 0,
                            "defense": name,
                            "defense_kind": kind,
                            "round": int(name != "none"),
                            "attack": attack,
                            "attack_kind": ATTACKS[attack],
                            "position": "suffix",
                            "iteration": step,
                            "n_examples": n,
                            "n_attacked": n,
                            "n_success": k,
                            "asr": k / n,
                            "defense_flops": flops,
                            "attack_flops_per_example": 1e12 * step,
                            "success_rule": "judge",
                            "judge": judge,
                            "eps": EPS.get(attack),
                            **cell,
                        }
                    )
    return table(rows, RUNS)


def mixed_runs() -> pd.DataFrame:
    return pd.concat([make_runs({"30k": 35_000}, rounds=(0, 1)), make_chat_runs()], ignore_index=True)


def _model(item: Any, **cell: Any) -> dict[str, Any]:
    kinds = {"seed": 0, "defense": item[0], "defense_kind": item[1], "round": int(item[0] != "none")}
    return {**CELL, **kinds, **cell}


def make_losses(defenses: Sequence[Any] = DEFENSES, **cell: Any) -> pd.DataFrame:
    rng, rows = np.random.default_rng(5), []
    for item in defenses:
        strength, luck = item[4], rng.normal(0, 0.12)
        for attack, kind in ATTACKS.items():
            if kind not in ("gcg", "embedding"):
                continue
            for step in range(21):
                fall = {"gcg": 0.5, "bounded": 0.85 * (1 - 0.7 * strength), "embedding": 1.0}[attack]
                loss = 2.4 + 2.5 * strength + luck
                loss *= 1 - fall * (1 - np.exp(-step / 5))
                loss = max(loss, 0.01) + (0.0 if step else 0.05)
                rows.append(
                    {
                        **_model(item, **cell),
                        "attack": attack,
                        "attack_kind": kind,
                        "eps": EPS.get(attack),
                        "eps_mode": "relative_norm",
                        "iteration": step,
                        "loss": loss,
                        "n": 16,
                        "se": 0.1,
                        "ci_low": loss - 0.2,
                        "ci_high": loss + 0.2,
                    }
                )
    return pd.DataFrame(rows, columns=LOSSES.names)


def make_utility(defenses: Sequence[Any] = DEFENSES, **cell: Any) -> pd.DataFrame:
    rows = []
    for item in defenses:
        broken = item[0] == BROKEN
        values = {"utility_perplexity": 8.0 * (1.6 if broken else 1 + 0.2 * item[4])}
        values |= {"harmless_answered": 0.55 if broken else 0.975 - 0.05 * item[4], "harmless_answered_anywhere": 0.5}
        values |= {"mmlu_refused": 0.05 + 0.1 * item[4], "mmlu_accuracy": 0.31 - 0.03 * item[4]}
        values |= {"polite_complied": 0.3 * (1 - item[4])}
        for metric, value in values.items():
            n = 40
            low, high = (
                proportion_confint(round(value * n), n, method="wilson") if value < 1 else (value - 1, value + 1)
            )
            rows.append(
                {
                    **_model(item, **cell),
                    "metric": metric,
                    "value": value,
                    "n": n,
                    "ci_low": low,
                    "ci_high": high,
                    "relative": value / 8.0 if metric == "utility_perplexity" else 1.0,
                    "collapsed": broken,
                }
            )
    return pd.DataFrame(rows, columns=UTILITIES.names)


def make_worst(defenses: Sequence[Any] = DEFENSES, **cell: Any) -> pd.DataFrame:
    rows = [
        {**_model(item, **cell), "n_attacks": 4, "n_success": round(40 * (1 - 0.9 * item[4])), "n": 40}
        for item in defenses
    ]
    return pd.DataFrame(rows, columns=WORST.names)


def make_cost(defenses: Sequence[Any] = DEFENSES, **cell: Any) -> pd.DataFrame:
    rows = []
    for item in defenses:
        name, kind, eps, beta, _, flops = item
        if name == "none":
            continue
        steps = 2565 if kind == "r2d2" else 10 if eps else 0
        rows.append(
            {
                **{key: value for key, value in _model(item, **cell).items() if key != "study"},
                "attack_space": "discrete" if kind == "r2d2" else "continuous" if eps else None,
                "eps": eps,
                "beta": beta,
                "example_forward_passes": float(steps),
                "example_backward_passes": float(min(steps, 10)),
                "n_updates": 30,
                "batch_size": 4,
                "defense_flops": flops,
                "defense_flops_exact": None if flops is None else flops * 0.8,
            }
        )
    frame = pd.DataFrame(rows, columns=COST.names)
    return pa.Table.from_pandas(frame, schema=COST, preserve_index=False).to_pandas()


def make_tables(defenses: Sequence[Any] = DEFENSES, **cell: Any) -> dict[str, pd.DataFrame]:
    makers = {"losses": make_losses, "utility": make_utility, "worst": make_worst, "cost": make_cost}
    return {name: make(defenses, **cell) for name, make in makers.items()}


def make_joint_runs() -> pd.DataFrame:
    """Rounds and a continuous defense of the same classifiers, the latter over two stages and cheaper."""
    runs = make_runs({"30k": 35_000, "220k": 220_000, "900k": 833_000}, attacks=["gcg"])
    other = runs[runs["round"].isin([1, 2])].assign(defense="c-at", defense_kind="c_at")
    other["defense_flops"] = other["defense_flops"] * 0.15
    other["n_success"] = (other["n_success"] * 0.8).round()
    other["asr"] = other["n_success"] / other["n_attacked"]
    return pd.concat([runs, other], ignore_index=True)


def make_joint_cost(runs: pd.DataFrame) -> pd.DataFrame:
    keys = ["task", "family", "scale", "n_params", "seed", "defense", "defense_kind", "round", "defense_flops"]
    rows = runs[runs["round"] > 0][keys].drop_duplicates()
    rows["defense_flops_exact"] = rows["defense_flops"] * 0.4
    return rows.reindex(columns=COST.names)
