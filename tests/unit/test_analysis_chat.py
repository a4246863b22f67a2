"""Correlations and paired gains against independent oracles, and the cost table against the paper's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from chat_artifacts import CELL, KINDS, make_model
from chat_figures_fixtures import make_losses
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hardscale.analysis.cost import COST, SECONDS, _variant, cost_table, passes
from hardscale.analysis.gains import common, paired_gain
from hardscale.analysis.loss_correlation import correlations, pearson, spearman
from hardscale.artifacts import publish
from hardscale.errors import DataError

ROOT = Path(__file__).parents[2]
QUICK = {"n_resamples": 400}
NUMBERS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=12)


@settings(max_examples=40, deadline=None)
@given(NUMBERS)
def test_coefficients_are_those_of_scipy(points):
    x, y = np.array(points, dtype=float).T
    for mine, theirs in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        found = mine(x, y, n_resamples=50)
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert found.value is None and found.low is None
        else:
            assert found.value == pytest.approx(theirs(x, y).statistic, abs=1e-9)
            none = mine is pearson or len(x) < 6
            assert found.low is None if none else -1 <= found.low <= found.value <= found.high <= 1


def test_the_p_value_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y, weak = x + rng.normal(size=30), rng.normal(size=30)
    assert pearson(x, y, seed=1).p == pytest.approx(stats.pearsonr(x, y).pvalue, abs=0.005)
    assert pearson(x, weak).p == pytest.approx(stats.pearsonr(x, weak).pvalue, abs=0.02)


def test_points_that_are_not_known_are_left_out_and_few_say_nothing():
    assert pearson([1, 2, np.nan, 4], [1, 2, 3, np.inf], **QUICK).n == 2
    assert pearson([1, 2], [1, 2], **QUICK).value is None
    assert pearson([], [], **QUICK).n == 0
    assert spearman([1, 2, 3], [1, 4, 9], **QUICK).value == 1.0
    with pytest.raises(DataError, match="one length"):
        pearson([1, 2, 3], [1, 2], **QUICK)


def test_equal_seeds_give_equal_p_values():
    x, y = np.arange(9.0), np.array([1.0, 3, 2, 5, 4, 7, 6, 9, 8])
    assert pearson(x, y, seed=3) == pearson(x, y, seed=3)


def test_a_gain_is_the_mean_difference_with_the_interval_of_a_mean():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1, 40), rng.normal(0.0, 1, 40)
    gain, low, high = paired_gain(a, b)
    theirs = stats.ttest_rel(a, b).confidence_interval()
    assert gain == pytest.approx(np.mean(a - b))
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.04)
    assert low <= theirs.low and high >= theirs.high
    assert all(np.isnan(paired_gain(a[:7], b[:7])[1:])), "too few for an interval that covers"


def test_pairs_are_of_the_same_behaviors():
    assert common({1: 1.0, 2: 2.0, 4: np.inf}, {2: 5.0, 1: 4.0, 3: 1.0, 4: 0.0}) == ([1.0, 2.0], [4.0, 5.0])
    assert paired_gain([1.0], [0.5])[0] == 0.5
    assert all(np.isnan(paired_gain([1.0], [0.5])[1:]))
    for bad in (([], []), ([1.0], [1.0, 2.0]), ([np.nan, 1], [1, 1])):
        with pytest.raises(DataError, match="paired gain"):
            paired_gain(*bad)


IPO = {"kind": "c_advipo", "attack": {"steps": 10}, "loss": "ipo", "adversarial_share": 1.0, "batch_size": 64}
UL = {"kind": "c_advul", "attack": {"steps": 10}, "adversarial_share": 0.125, "batch_size": 64}
UL |= {"toward_weight": 0.5, "away_weight": 0.5}


def test_the_formula_gives_the_papers_table():
    ipo = passes("c_advipo", IPO, [64] * 360)
    assert (ipo.forward, ipo.backward, ipo.whole, ipo.space) == (10, 10, 552_960, "continuous")
    r2d2 = {"gcg_steps": 5, "n_candidates": 512, "cases_per_step": 32, "pool_size": 180, "utility_batch": 224}
    r2d2["utility_weight"] = 1.0
    found = passes("r2d2", r2d2, [256] * 2000)
    assert (found.forward, found.backward, found.whole, found.space) == (2565, 5, 165_632_000, "discrete")
    # The paper's 234,000 are 300 a step: 7.83 adversarial rows of the 8 that an eighth of 64 is.
    assert passes("c_advul", UL, [64] * 780).whole == 304 * 780


def test_passes_of_what_is_left_out_are_not_counted():
    assert passes("c_advul", {**UL, "attack": None, "away_weight": 0}, [64]).whole == 8 * 2 + 56 * 2
    assert passes("c_advipo", {**IPO, "attack": None}, [64]).space is None
    assert passes("c_advipo", {**IPO, "loss": "npo"}, [64]).whole == 64 * 22
    assert passes("external", {}, []) is None
    c_at = {"attack": {"steps": 3}, "batch_size": 8, "clean_weight": 1.0}
    assert passes("c_at", c_at, [8, 4]).whole == 12 * (6 + 4)
    assert passes("c_at", {**c_at, "clean_weight": 0.0}, [8, 4]).whole == 12 * (6 + 2)


def test_a_variant_is_what_an_ablation_holds():
    ipo = _variant(IPO)
    assert ipo == _variant({**IPO, "attack": None}) == _variant({**IPO, "beta": 1.0, "overrides": []})
    assert ipo == _variant({**IPO, "attack": {**IPO["attack"], "eps": 0.3}})
    assert ipo != _variant({**IPO, "batch_size": IPO["batch_size"] + 1})


def test_discrete_rounds_by_hand():
    attack = {"kind": "gcg", "n_iterations": 2, "n_iterations_end": 4, "n_candidates": 8, "gradient": True}
    rounds = {"attack": attack, "rounds": 3, "n_new_examples": 5, "batch_size": 8}
    found = passes("adversarial_rounds", rounds, [8, 8], 2)
    # Rounds of 2 and 3 iterations, each 8 candidates and one gradient: 5 x (2 + 3) x 10, and 16 rows trained on.
    assert (found.forward, found.backward, found.whole) == (9 * 2.5, 2.5, 250 + 32)
    random_token = {**attack, "kind": "random_token"}
    found = passes("adversarial_rounds", {**rounds, "attack": random_token}, [8, 8], 2)
    assert (found.forward, found.backward, found.whole) == (2.5, 0.0, 25 + 32)


def test_the_table_has_a_row_a_defended_model(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "sync", lambda path: None)
    monkeypatch.setattr(publish, "versions", dict)
    make_model(tmp_path, "none", 0.0)
    make_model(tmp_path, "ipo", 70.0, defense_flops_exact=30.0, n_forward_passes=2300, n_backward_passes=2304)
    make_model(tmp_path, "ext", None)
    table = cost_table(tmp_path, KINDS)
    assert list(table.columns) == [*COST.names, SECONDS]
    rows = {row["defense"]: row for row in table.to_dict("records")}
    assert set(rows) == {"ipo", "ext"}
    ipo = rows["ipo"]
    assert (ipo["n_updates"], ipo["batch_size"], ipo["passes_formula"]) == (3, 64, 24 * 64 * 3)
    assert ipo["forward_passes"] + ipo["backward_passes"] == 4604
    assert (ipo["defense_flops"], ipo["defense_flops_exact"], ipo[SECONDS]) == (70.0, 30.0, 3.0)
    assert (ipo["eps"], ipo["beta"], ipo["task"], ipo["seed"]) == (0.05, 0.25, *CELL.split("/")[:1], 0)
    assert np.isnan(rows["ext"]["defense_flops"]) and np.isnan(rows["ext"]["passes_formula"])


def test_the_entry_keeps_time_out_of_the_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "sync", lambda path: None)
    monkeypatch.setattr(publish, "versions", dict)
    make_model(tmp_path / "some", "ul", 70.0)
    for name, n_lines in (("some", 2), ("none", 1)):
        place = tmp_path / name / "tables"
        command = [sys.executable, str(ROOT / "scripts/cost.py"), "--root", str(tmp_path / name)]
        command += ["--spec", json.dumps({"study": "s", "defense_kinds": KINDS})]
        command += ["--out", str(place / "cost.parquet"), "--csv", str(place / "cost.csv")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = (place / "cost.csv").read_text().splitlines()
        assert len(lines) == n_lines and lines[0].endswith(SECONDS)
        assert SECONDS.encode() not in (place / "cost.parquet").read_bytes()


def test_the_table_of_correlations_is_over_models_of_a_task():
    losses = make_losses()
    table = correlations(losses)
    assert list(table[["attack", "other", "method"]].itertuples(index=False, name=None)) == [
        (attack, "gcg", method) for attack in ("bounded", "embedding") for method in ("spearman", "pearson")
    ]
    last = losses[losses["iteration"] == 20].pivot_table(index="defense", columns="attack", values="loss")
    found = table[table["attack"] == "bounded"].set_index("method")
    assert found.loc["spearman", "value"] == pytest.approx(stats.spearmanr(last["bounded"], last["gcg"]).statistic)
    assert found.loc["pearson", "value"] == pytest.approx(stats.pearsonr(last["bounded"], last["gcg"]).statistic)
    assert set(table["n_models"]) == {9}
    ranked = table["method"] == "spearman"
    assert (table["ci_low"] <= table["value"])[ranked].all() and table.loc[~ranked, "ci_low"].isna().all()
    assert correlations(losses.iloc[:0]).empty
    assert correlations(losses[losses["defense"] == "none"])["value"].isna().all()


def test_a_correlation_of_few_points_has_no_interval():
    found = [spearman(np.arange(n), np.arange(n) ** 2) for n in (5, 6)]
    assert [(one.value, one.low is None, one.high) for one in found] == [(1.0, True, None), (1.0, False, 1.0)]
