"""Claims: paired comparisons at equal iterations and equal compute, changes by defense, and their verdicts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import t as student

from hardscale.analysis.attacked import AttackRows, CleanRows, artifact_folders, read_attacks, read_clean
from hardscale.analysis.claims import CLAIMS, claims
from hardscale.analysis.comparisons import equal_compute
from hardscale.analysis.intervals import independent_difference, paired_difference
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK, CLEAN, RUNS
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
    gcg = _attack("gcg", ones, per_iteration=20, backward=5)
    random = _attack("random", np.ones((3, 100), dtype=bool), per_iteration=7)
    assert equal_compute(gcg, random) == (5, 21)
    assert equal_compute(gcg, _attack("random", ones, per_iteration=13)) == (2, 5)
    assert equal_compute(gcg, _attack("random", ones[:, :1], per_iteration=29)) == (0, 1)
    assert equal_compute(gcg, _attack("random", np.ones((3, 3), dtype=bool), per_iteration=30)) == (3, 3)


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
    assert rows["interval"].tolist() == ["these models"] * 4 + ["models like them"]
    pooled = rows[rows["seed"].isna()]
    assert (pooled["n"] == 150).all() and (pooled["n_models"] == 3).all()
    assert pooled["estimate"].tolist() == pytest.approx([rows["estimate"][:3].mean()] * 2)
    assert (pooled["outcome"] == "supported").all() and pooled["holds"].all()
    assert rows["family_size"].isna().all(), "one scale: the study has no models like them but seeds"


def _scales(name: str, shares: dict[str, float], seed: int = 0, n: int = 60, **model: Any) -> list[AttackRows]:
    rng = np.random.default_rng([seed, *name.encode()])
    return [_attack(name, rng.random((n, 2)) < share, scale=scale, **model) for scale, share in shares.items()]


def test_what_a_study_says_is_pooled_over_its_models_and_corrected_as_one_family() -> None:
    scales = {"s": 0.9, "m": 0.85, "l": 0.8}
    attacks: list[AttackRows] = []
    for task in ("t", "u"):
        attacks += _scales("gcg", scales, task=task)
        attacks += _scales("control", dict.fromkeys(scales, 0.2), task=task)
        attacks += _scales("random", dict.fromkeys(scales, 0.83), task=task)
    table = claims(_runs().iloc[:0], attacks)
    family = table[table["family_size"].notna()]
    # Gradient, RandomToken, and half of the iterations of the two attacks that are no control.
    assert family["claim"].value_counts().to_dict() == {
        "gradient_helps": 1,
        "gcg_beats_random_token": 1,
        "more_iterations_help": 2,
    }
    assert (family["family_size"] == 4).all() and (family["interval"] == "models like them").all()
    assert family[["task", "scale"]].isna().all(axis=None) and (family["n_cells"] == 6).all()
    assert (family["family_low"] < family["ci_low"]).all() and (family["family_high"] > family["ci_high"]).all()
    helps = _only(family, "gradient_helps")
    assert helps["outcome"] == "supported" and helps["family_low"] > 0.4
    assert _only(family, "gcg_beats_random_token")["outcome"] == "undecided"
    # Six degrees fewer one, at 1 - .05 / 4 in place of .95.
    assert (helps["family_high"] - helps["estimate"]) / (helps["ci_high"] - helps["estimate"]) == pytest.approx(
        student.ppf(1 - 0.05 / 8, 5) / student.ppf(0.975, 5), rel=0.1
    )
    of_task = table[(table["claim"] == "gradient_helps") & (table["task"] == "t") & table["scale"].isna()]
    assert of_task["interval"].tolist() == ["these models", "models like them"]
    back = claims(
        _runs().iloc[:0], _scales("gcg", dict.fromkeys(scales, 0.1)) + _scales("control", dict.fromkeys(scales, 0.9))
    )
    refuted = back[(back["claim"] == "gradient_helps") & back["family_size"].notna()].iloc[0]
    assert (refuted["outcome"], refuted["holds"], refuted["task"]) == ("refuted", False, "t")


def test_changes_by_the_defense_are_paired_on_what_both_models_get_right() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.random((60, 3)) < 0.7, rng.random((50, 3)) < 0.2
    attacks = [_attack("gcg", before), _attack("gcg", before[:, :2], defense="adv", round=1)]
    attacks += [_attack("gcg", after, defense="adv", round=3)]
    row = _only(claims(_runs(), attacks), "defense_lowers_asr", scale="s")
    assert tuple(row[["estimate", "ci_low", "ci_high"]]) == pytest.approx(
        paired_difference(after[:, 2], before[:50, 2])
    )
    assert (row["round"], row["other"], row["n"], row["outcome"]) == (3, "round 0", 50, "supported")
    assert row["interval"] == "these models"
    others = claims(_runs(), attacks)
    others = others[(others["claim"] == "defense_lowers_asr") & (others["scale"] != "s")]
    assert (others["interval"] == "these models, unpaired").all() and len(others) == 2


def _clean(correct: np.ndarray, **model: Any) -> CleanRows:
    where = {"task": "t", "family": "f", "scale": "s", "seed": 0, "defense": "none", "round": 0, **model}
    return CleanRows(where, pd.Series(correct, index=np.arange(len(correct))))


def test_clean_accuracy_is_paired_and_two_statements_share_its_interval() -> None:
    before, after = np.ones(400, dtype=bool), np.arange(400) >= 2
    before[:10] = after[:10] = False
    attacks = [_attack("gcg", np.ones((4, 2), dtype=bool))]
    rows = [_clean(before), _clean(after, defense="adv", round=3), _clean(~after, defense="adv", round=7)]
    table = claims(_runs(), attacks, clean=rows)
    keeps, costs = (_only(table, f"defense_{does}_accuracy", scale="s") for does in ("keeps", "costs"))
    assert tuple(costs[["estimate", "ci_low", "ci_high"]]) == pytest.approx(paired_difference(after, before))
    assert (keeps["ci_low"], keeps["against"], keeps["outcome"]) == (costs["ci_low"], -0.02, "supported")
    assert (costs["outcome"], costs["round"], costs["n"]) == ("undecided", 3, 400)
    # Unpaired the same two shares decide nothing about two points.
    assert independent_difference(390, 400, 390, 400)[1] < -0.02


def test_discrete_rounds_are_compared_with_continuous_training_of_no_less_compute() -> None:
    runs = _runs()
    runs["defense_kind"] = runs["defense"].map({"none": "none", "adv": "adversarial_rounds"})
    runs["defense_flops"] = runs["round"] * 10.0
    continuous = runs[runs["round"] == 3].assign(defense="c", defense_kind="c_at", round=3, defense_flops=25.0)
    runs = pd.concat([runs, runs[runs["round"] == 1].assign(round=2, defense_flops=20.0), continuous])
    some, none = np.ones((30, 2), dtype=bool), np.zeros((30, 2), dtype=bool)
    attacks = [_attack("gcg", some if r == 3 else none, defense="adv", round=r) for r in (1, 2, 3)]
    attacks += [_attack("gcg", some, defense="c", round=3)]
    row = _only(claims(runs, attacks), "rounds_beat_continuous")
    assert (row["round"], row["defense"], row["other"], row["estimate"]) == (2, "adv", "c", -1.0)
    dear = runs.assign(defense_flops=runs["defense_flops"].where(runs["defense"] != "adv", 26.0))
    assert "rounds_beat_continuous" not in set(claims(dear, attacks)["claim"])


def test_more_iterations_are_the_last_against_half_of_them() -> None:
    early, late = np.zeros((20, 5), dtype=bool), np.zeros((20, 5), dtype=bool)
    early[:4, 1] = late[:, 4] = True
    row = _only(claims(_runs(), [_attack("gcg", early | late)]), "more_iterations_help")
    assert (row["estimate"], row["other"], row["n"]) == (0.8, "iteration 2", 20)
    defended = _attack("gcg", early | late, defense="adv", round=1)
    assert "more_iterations_help" not in set(claims(_runs(), [defended])["claim"])


def test_changes_by_the_defense_from_counts_alone() -> None:
    table = claims(_runs())
    row = _only(table, "defense_lowers_asr", scale="s")
    assert tuple(row[["estimate", "ci_low", "ci_high"]]) == pytest.approx(independent_difference(10, 90, 60, 90))
    assert (row["round"], row["holds"], row["other"]) == (3, True, "round 0")
    assert row["interval"] == "these models, unpaired"
    clean = _only(table, "defense_costs_accuracy", scale="s")
    assert tuple(clean[["estimate", "ci_low", "ci_high"]]) == pytest.approx(independent_difference(320, 400, 380, 400))
    assert clean["holds"]
    flat = _only(claims(_runs(after=65, clean_after=0.95)), "defense_lowers_asr", scale="s")
    assert not flat["holds"] and flat["outcome"] == "undecided"
    assert not _only(claims(_runs(clean_after=0.95)), "defense_costs_accuracy", scale="s")["holds"]


def _falling(runs: pd.DataFrame) -> pd.DataFrame:
    """The same models, the larger the less broken."""
    k = (runs["n_params"].map({10**6: 80, 10**7: 45, 10**8: 10}) * (runs["iteration"] > 0)).astype(int)
    return runs.assign(n_success=k, asr=k / 90)


def test_size_slope_claim() -> None:
    runs = _falling(_runs())
    row = _only(claims(runs), "larger_is_more_robust", defense="none")
    assert row["estimate"] < 0
    assert row["holds"] == (row["family_high"] < 0)
    assert (row["task"], row["n_cells"], row["family_size"]) == ("t", 3, 2)
    assert pd.isna(row["scale"])
    assert pd.isna(row["seed"])
    assert not _only(claims(_runs()), "larger_is_more_robust", defense="none")["holds"]


def test_tasks_have_a_slope_together_through_their_means_at_each_scale() -> None:
    runs = pd.concat([_falling(_runs()), _runs().assign(task="u")], ignore_index=True)
    table = claims(runs)
    table = table[(table["claim"] == "larger_is_more_robust") & (table["defense"] == "none")]
    *tasks, together = (row for _, row in table.iterrows())
    assert [row["task"] for row in tasks] == ["t", "u"] and pd.isna(together["task"])
    assert together["estimate"] == pytest.approx(np.mean([row["estimate"] for row in tasks]), rel=0.1)
    assert (together["n_models"], together["n_cells"], together["family_size"]) == (6, 6, 2)
    assert together["family_high"] > together["ci_high"]
    assert all(pd.isna(row["family_size"]) for row in tasks)


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


def _publish_model(folder: Path, defense: str, correct: int) -> None:
    rows = [{"example_id": i, "label": 1, "prediction": int(i < correct), "loss": 0.0} for i in range(100)]
    with publishing(folder / defense, "model", {}) as draft:
        write_table(draft.path / "clean.parquet", rows, CLEAN)
        draft.note(cell="t/f/s/s0", defense=defense, round=0 if defense == "none" else 3)


def test_entry_joins_shards(tmp_path: Path) -> None:
    folders = [_publish(tmp_path, "gcg", range(10), "0", gradient=True)]
    folders += [_publish(tmp_path, "gcg", range(10, 30), "1", gradient=True)]
    folders += [_publish(tmp_path, "control", range(30), "0", gradient=False)]
    assert [len(part.rows) for part in read_attacks(folders)] == [30, 30]
    with pytest.raises(DataError, match="there twice"):
        read_attacks([*folders, folders[0]])
    write_table(tmp_path / "runs.parquet", pa.Table.from_pandas(_runs(), schema=RUNS, preserve_index=False), RUNS)
    command = [sys.executable, str(ROOT / "scripts" / "claims.py"), "--runs", str(tmp_path / "runs.parquet")]
    for defense, correct in (("none", 99), ("adv", 90)):
        _publish_model(tmp_path / "models", defense, correct)
    assert [rows.correct.sum() for rows in read_clean(artifact_folders([tmp_path / "models"]))] == [90, 99]
    command += ["--models", str(tmp_path / "models"), "--headline", "gcg=1"]
    command += ["--attacks", *map(str, folders), "--out", str(tmp_path / "c.parquet"), "--csv", str(tmp_path / "c.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = read_table(tmp_path / "c.parquet", CLAIMS).to_pandas()
    assert _only(table, "gradient_helps")["n"] == 30
    assert _only(table, "defense_costs_accuracy", scale="s")["estimate"] == pytest.approx(-0.09)
    assert "gradient_helps" in (tmp_path / "c.csv").read_text()
