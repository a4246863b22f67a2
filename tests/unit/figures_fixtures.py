"""A made-up study shaped like the default one: three cells a scale, three rounds, three attacks, binomial noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hardscale.artifacts.schemas import FITS, RUNS

NANO = {"30k": 35_000, "80k": 93_000, "220k": 220_000, "900k": 833_000}
PYTHIA = {
    "14m": 7_629_056,
    "31m": 17_617_408,
    "70m": 44_672_000,
    "160m": 123_691_008,
    "410m": 353_824_768,
    "1b": 908_763_136,
    "1.4b": 1_311_629_312,
    "2.8b": 2_646_435_840,
    "6.9b": 6_650_740_736,
    "12b": 11_586_560_000,
}
CELLS = (("password_match", 0), ("password_match", 1), ("word_length", 0))
STEPS = {"gcg": range(1, 11), "gcg-control": range(1, 11), "random_token": (1, 4, 16, 64, 112)}
TOKENS = 17


def table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pd.DataFrame:
    """Rows as the figures get them: through the parquet schema."""
    full = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(full, schema=schema).to_pandas()


def make_runs(
    scales: dict[str, int] | None = None,
    cells: Sequence[tuple[str, int]] = CELLS,
    rounds: Sequence[int] = (0, 1, 2, 3),
    attacks: Sequence[str] = tuple(STEPS),
    family: str = "nano",
    n: int = 96,
    level: float = 0.0,
) -> pd.DataFrame:
    """Runs whose log-odds rise with the attack's compute and fall with the rounds of defense.

    ``level`` is added to every log-odds (base 10): -9 and 9 give success rates of 0 and 1 everywhere.
    """
    rng = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    for scale_index, (scale, n_params) in enumerate((scales or NANO).items()):
        for task, seed in cells:
            luck = rng.normal(0, 0.15)
            for number in rounds:
                accuracy = 0.93 + 0.05 * scale_index / max(len(scales or NANO) - 1, 1) - 0.004 * number
                n_correct = rng.binomial(1000, min(accuracy, 0.995))
                for attack in attacks:
                    any_success = 0
                    for step in [0, *STEPS.get(attack, range(1, 11))]:
                        slope = {"gcg": 1.5, "gcg-control": 1.1}.get(attack, 0.7)
                        start = {"gcg": -1.4, "gcg-control": -1.7}.get(attack, -1.6)
                        logit = start + slope * np.log10(max(step, 1)) + luck + level
                        logit -= 0.25 * number * (0.4 + 0.3 * scale_index) + (0.8 if task == "word_length" else 0)
                        k = 0 if step == 0 else int(rng.binomial(n, 1 / (1 + 10**-logit)))
                        k = max(k, any_success) if attack == "random_token" else k
                        any_success = max(any_success, k)
                        passes = step * (1 if attack == "random_token" else 9 if attack == "gcg-control" else 11)
                        rows.append(
                            {
                                "study": "nano",
                                "task": task,
                                "family": family,
                                "scale": scale,
                                "n_params": n_params,
                                "seed": seed,
                                "defense": "adversarial-rounds" if number else "none",
                                "defense_kind": "adversarial_rounds" if number else "none",
                                "round": number,
                                "attack": attack,
                                "attack_kind": "gcg" if attack.startswith("gcg") else attack,
                                "position": "suffix",
                                "iteration": step,
                                "n_examples": n + 4,
                                "n_attacked": n,
                                "n_success": k,
                                "asr": k / n,
                                "n_success_any": any_success,
                                "asr_any": any_success / n,
                                "clean_accuracy": n_correct / 1000,
                                "n_clean_examples": 1000,
                                "attack_flops_per_example": 2.0 * n_params * TOKENS * passes,
                                "defense_flops": float(number * n_params * 6 * TOKENS * 9e3 * (1 + 0.1 * number)),
                                "pretrain_flops": 6.0 * n_params * TOKENS * 51_200,
                                "attack_seed": 0,
                                "success_rule": "argmax != label",
                            }
                        )
    return table(rows, RUNS)


def make_fits(runs: pd.DataFrame) -> pd.DataFrame:
    """One attack-scaling line a group, through the pooled log-odds (half a success added on either side)."""
    rows = []
    keys = ["task", "family", "scale", "attack", "position"]
    start = runs[(runs["round"] == 0) & (runs["iteration"] >= 1)]
    for key, part in start.groupby(keys):
        x = np.log10(part["attack_flops_per_example"] / part["pretrain_flops"]).to_numpy(float)
        k, n = part["n_success"].to_numpy(float) + 0.5, part["n_attacked"].to_numpy(float) + 1
        slope, intercept = np.polyfit(x, np.log10(k / (n - k)), 1) if len(set(x)) > 1 else (1.0, 0.0)
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "kind": "attack_scaling",
                "defense": "none",
                "round": 0,
                "method": "binomial",
                "slope": float(slope),
                "intercept": float(intercept),
                "n_points": len(part),
                "n_seeds": part["seed"].nunique(),
            }
        )
    return table(rows, FITS)
