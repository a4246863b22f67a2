"""Claims: paired comparisons at equal iterations and equal compute, changes by defence, and their verdicts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hardscale.analysis.claims import CLAIMS, AttackRows, _equal_compute, claims, read_attacks
from hardscale.analysis.intervals import independent_difference, paired_difference
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK, RUNS
from hardscale.artifacts.tables import read_table, write_table
from hardscale.errors import DataError

ROOT = Path(__file__).parents[2]


def _attack(
    name: str, successes: np.ndarray, *, per_iteration: int = 10, backward: int = 0, **model: Any
) -> AttackRows:
    n, iterations = successes.shape
    steps = np.arange(1, iterations + 1)
    rows = pd.DataFrame(
        {
            "example_id": np.arange(n),
            "successes": list(successes),
            "forward_tokens": [steps * per_iteration] * n,
            "backward_tokens": [steps * backward] * n,
        }
    )
    where = {"task": "t", "family": "f", "scale": "s", "seed": 0, "defense": "none", "round": 0, **model}
    kind = "random_token" if name == "random" else "gcg"
    return AttackRows(where, name, kind, "suffix", name != "control", rows)


def _runs(after: int = 10, clean_after: float = 0.8) -> pd.DataFrame:
    rows = []
    for scale, params in (("s", 10**6), ("m", 10**7), ("l", 10**8)):
        for defense, round_, k, clean in (("none", 0, 60, 0.95), ("adv", 1, 50, 0.9), ("adv", 3, after, clean_after)):
            for i in (0, 1, 2):
                rows.append(
                    {
                        **dict.fromkeys(RUNS.names),
                        **{"study": "x", "task": "t", "family": "f", "scale": scale, "n_params": params, "seed": 0},
                        **{"defense": defense, "defense_kind": defense, "round": round_, "attack": "gcg"},
                        **{"attack_kind": "gcg", "position": "suffix", "iteration": i, "n_examples": 100},
                        **{"n_attacked": 90, "n_success": k * i // 2, "asr": k * i // 2 / 90, "clean_accuracy": clean},
                        "n_clean_examples": 400,
                    }
                )
    return pd.DataFrame(rows)


def _only(table: pd.DataFrame, claim: str, **keys: Any) -> pd.Series:
    rows = table[table["claim"] == claim]
    for name, value in keys.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_gradient_is_compared_on_the_same_examples_at_the_last_common_iteration() -> None:
    rng = np.random.default_rng(0)
    gcg, control = rng.random((60, 4)) < 0.7, rng.random((40, 6)) < 0.3
    table = claims(_runs(), [_attack("gcg", gcg), _attack("control", control)])
    row = _only(table, "gradient_helps")
    expected = paired_difference(gcg[:40, 3], control[:, 3])
    assert tuple(row[["estimate", "ci_low", "ci_high"]]) == pytest.approx(expected)
    assert (row["attack"], row["other"], row["n"], row["holds"]) == ("gcg", "control", 40, True)
    back = _only(claims(_runs(), [_attack("gcg", control), _attack("control", gcg)]), "gradient_helps")
    assert not back["holds"]


def test_equal_compute_takes_the_last_iteration_that_both_can_afford() -> None:
    ones = np.ones((3, 5), dtype=bool)
    # GCG: 5 x (20 + 2 x 5) = 150 tokens; RandomToken 7 each, 100 iterations: 21 of them cost 147, 22 cost 154.
    gcg = _attack("gcg", ones, per_iteration=20, backward=5).rows
    random = _attack("random", np.ones((3, 100), dtype=bool), per_iteration=7).rows
    assert _equal_compute(gcg, random) == (5, 21)
    assert _equal_compute(gcg, _attack("random", ones, per_iteration=13).rows) == (2, 5)
    assert _equal_compute(gcg, _attack("random", ones[:, :1], per_iteration=29).rows) == (0, 1)
    assert _equal_compute(gcg, _attack("random", np.ones((3, 3), dtype=bool), per_iteration=30).rows) == (3, 3)


def test_gcg_against_random_token() -> None:
    gcg = np.array([[0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=bool)
    random = np.array([[0] * 6, [0] * 6, [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]], dtype=bool)
    table = claims(_runs(), [_attack("gcg", gcg, per_iteration=10), _attack("random", random, per_iteration=6)])
    row = _only(table, "gcg_beats_random_token")
    expected = paired_difference(gcg[:, 2], random[:, 4])  # 30 tokens pay 5 random strings
    assert tuple(row[["estimate", "ci_low", "ci_high"]]) == pytest.approx(expected)


def test_attacks_on_other_models_are_not_compared_and_three_seeds_are_pooled() -> None:
    rng = np.random.default_rng(1)
    attacks = []
    for seed in (0, 1, 2):
        attacks += [_attack("gcg", rng.random((50, 2)) < 0.8, seed=seed)]
        attacks += [_attack("control", rng.random((50, 2)) < 0.2, seed=seed)]
    attacks += [_attack("control", rng.random((50, 2)) < 0.2, seed=0, round=1, defense="adv")]
    rows = claims(_runs(), attacks)
    rows = rows[rows["claim"] == "gradient_helps"]
    assert rows["seed"].tolist()[:3] == [0, 1, 2]
    assert len(rows) == 4
    pooled = rows[rows["seed"].isna()].iloc[0]
    assert pooled["n"] == 150
    assert pooled["estimate"] == pytest.approx(rows["estimate"][:3].mean())
    assert pooled["holds"]


def test_changes_by_the_defense() -> None:
    table = claims(_runs())
    row = _only(table, "defense_lowers_asr", scale="s")
    assert tuple(row[["estimate", "ci_low", "ci_high"]]) == pytest.approx(independent_difference(10, 90, 60, 90))
    assert (row["round"], row["holds"], row["other"]) == (3, True, "round 0")
    clean = _only(table, "defense_costs_accuracy", scale="s")
    assert tuple(clean[["estimate", "ci_low", "ci_high"]]) == pytest.approx(independent_difference(320, 400, 380, 400))
    assert clean["holds"]
    flat = _only(claims(_runs(after=65, clean_after=0.95)), "defense_lowers_asr", scale="s")
    assert not flat["holds"]
    assert not _only(claims(_runs(clean_after=0.95)), "defense_costs_accuracy", scale="s")["holds"]


def test_size_slope_claim() -> None:
    runs = _runs()
    falling = runs["n_params"].map({10**6: 80, 10**7: 45, 10**8: 10})
    runs["n_success"] = (falling * (runs["iteration"] > 0)).astype(int)
    runs["asr"] = runs["n_success"] / 90
    row = _only(claims(runs), "larger_is_more_robust", defense="none")
    assert row["estimate"] < 0
    assert row["holds"] == (row["ci_high"] < 0)
    assert pd.isna(row["scale"])
    assert pd.isna(row["seed"])
    assert not _only(claims(_runs()), "larger_is_more_robust", defense="none")["holds"]


def _publish(folder: Path, name: str, ids: range, shard: str, *, gradient: bool) -> Path:
    rows = [
        {
            **{"example_id": i, "label": 0, "clean_prediction": 0, "adversarial_text": "x", "adversarial_tokens": [1]},
            **{"success": gradient, "first_success": None, "losses": [1.0], "successes": [gradient]},
            **{"n_evaluated": [1], "forward_tokens": [4], "backward_tokens": [0], "flops_exact_by_iteration": [1.0]},
            **{"forward_passes": [1], "backward_passes": [0], "n_forward_tokens": 4, "n_backward_tokens": 0},
            **{"flops": 1.0, "seed": 1},
        }
        for i in ids
    ]
    settings = {"kind": "gcg", "position": "suffix", "gradient": gradient}
    spec = {"cell": "t/f/s/s0", "defense": "none", "round": 0, "attack": name, "settings": settings}
    with publishing(folder / name / shard, "attack", spec) as draft:
        write_table(draft.path / "attack.parquet", rows, ATTACK)
    return folder / name / shard


def test_entry_joins_shards(tmp_path: Path) -> None:
    folders = [_publish(tmp_path, "gcg", range(10), "0", gradient=True)]
    folders += [_publish(tmp_path, "gcg", range(10, 30), "1", gradient=True)]
    folders += [_publish(tmp_path, "control", range(30), "0", gradient=False)]
    assert [len(part.rows) for part in read_attacks(folders)] == [30, 30]
    with pytest.raises(DataError, match="there twice"):
        read_attacks([*folders, folders[0]])
    write_table(tmp_path / "runs.parquet", pa.Table.from_pandas(_runs(), schema=RUNS, preserve_index=False), RUNS)
    command = [sys.executable, str(ROOT / "scripts" / "claims.py"), "--runs", str(tmp_path / "runs.parquet")]
    command += ["--attacks", *map(str, folders), "--out", str(tmp_path / "c.parquet"), "--csv", str(tmp_path / "c.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = read_table(tmp_path / "c.parquet", CLAIMS).to_pandas()
    assert _only(table, "gradient_helps")["n"] == 30
    assert "gradient_helps" in (tmp_path / "c.csv").read_text()
