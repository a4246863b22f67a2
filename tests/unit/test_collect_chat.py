"""Tables of chat models against numbers counted by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from chat_artifacts import (
    BEHAVIORS,
    CELL,
    KINDS,
    make_attack,
    make_base,
    make_lm_eval,
    make_model,
    make_mt_bench,
    make_utility,
)
from figures_fixtures import make_runs
from test_figures_draw import assert_readable_or_message, texts

from hardscale.analysis.attacked import read_attacks
from hardscale.analysis.claims import claims
from hardscale.analysis.fit import fit_all
from hardscale.analysis.gains import baseline_role, baseline_roles, gains
from hardscale.analysis.intervals import mean_interval
from hardscale.analysis.points import of_chat, usable
from hardscale.analysis.summary import summary_table
from hardscale.artifacts import publish
from hardscale.artifacts.schemas import RUNS
from hardscale.errors import ArtifactError
from hardscale.evaluation import chat_tables
from hardscale.evaluation.collect import collect_runs
from hardscale.evaluation.replies import verdicts
from hardscale.figures.about import figure_drawer, figures
from hardscale.figures.spec import FigureSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(publish, "sync", lambda path: None)
    monkeypatch.setattr(publish, "versions", dict)


@pytest.fixture
def study(tmp_path):
    make_base(tmp_path)
    make_model(tmp_path, "none", 0.0)
    make_attack(tmp_path, "none")
    return tmp_path


def runs_of(root):
    return collect_runs(root, "s", KINDS)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_row_a_judge_before_the_attack_and_after_it(tmp_path, shards):
    make_base(tmp_path)
    make_model(tmp_path, "none", 0.0)
    make_attack(tmp_path, "none", shards=shards)
    rows = runs_of(tmp_path).to_pylist()
    found = [(r["iteration"], r["judge"], r["n_success"], r["asr"]) for r in rows]
    # The judge that was asked about nothing ("books") has no row; the first judge comes first.
    assert found == [
        (0, "strict", 1, 0.25),
        (0, "target-likelihood", 0, 0.0),
        (3, "strict", 3, 0.75),
        (3, "target-likelihood", 4, 1.0),
    ]
    assert {(r["n_examples"], r["n_attacked"], r["success_rule"], r["asr_any"], r["clean_accuracy"]) for r in rows} == {
        (4, 4, "judge", None, None)
    }
    assert [r["attack_flops_per_example"] for r in rows] == [0, 0, 200 * 36, 200 * 36]
    assert [r["n_forward_passes"] for r in rows] == [0, 0, 9, 9]
    assert {r["pretrain_flops"] for r in rows} == {9.0}


def test_a_verdict_that_can_not_be_read_counts_as_not_complied_and_is_told(tmp_path, capsys):
    make_base(tmp_path)
    make_model(tmp_path, "none", 0.0)
    make_attack(tmp_path, "none", unread=1)
    rows = runs_of(tmp_path).to_pylist()
    last = next(r for r in rows if r["iteration"] == 3 and r["judge"] == "strict")
    assert (last["n_success"], last["n_attacked"], last["asr"]) == (2, 4, 0.5)
    assert "1 verdicts of strict cannot be read" in "".join(capsys.readouterr())


def test_unknown_compute_and_the_radius_are_in_the_table(study):
    make_model(study, "ext", None)
    make_attack(study, "ext", name="ball", kind="embedding", eps=0.05)
    rows = [r for r in runs_of(study).to_pylist() if r["defense"] == "ext"]
    assert {(r["defense_flops"], r["eps"], r["defense_kind"]) for r in rows} == {(None, 0.05, "external")}


def test_a_reply_that_is_missing_is_an_error(study):
    folder = study / f"attacks/{CELL}/none/r00/gcg"
    table = pq.read_table(folder / "replies.parquet")
    pq.write_table(table.slice(3), folder / "replies.parquet")
    with pytest.raises(ArtifactError, match="has 3 entries before the attack, the manifest says 4"):
        list(verdicts([folder], 4, 3, {False: 0, True: 0}))


def test_the_table_changes_when_a_reply_does(study, tmp_path):
    before = runs_of(study).schema.metadata
    make_attack(study, "none", [(*one[:2], one[3], one[2]) for one in BEHAVIORS])
    assert runs_of(study).schema.metadata != before


def test_lines_and_claims_are_of_classifiers_alone(study):
    make_model(study, "ul")
    make_attack(study, "ul")
    chat = runs_of(study).to_pandas()
    other = make_runs({"30k": 35_000}, rounds=(0, 1))
    both = np.concatenate([of_chat(chat), of_chat(other)])
    assert both[: len(chat)].all() and not both[len(chat) :].any()
    mixed = other.merge(chat, how="outer")[RUNS.names]
    assert usable(mixed).equals(usable(other)) or len(usable(mixed)) == len(usable(other))
    assert fit_all(mixed, {}, [0.05]).equals(fit_all(other, {}, [0.05]))
    assert fit_all(chat, {}, [0.05]).empty
    attacks = read_attacks([path.parent for path in (study / "attacks").rglob("manifest.json")])
    assert len(attacks) == 2 and claims(chat, attacks).empty


def test_the_summary_has_a_row_a_judge_and_no_more_columns_without_chat(study):
    chat = summary_table(runs_of(study).to_pandas())
    assert list(chat["judge"]) == ["strict", "target-likelihood"]
    assert list(chat["asr"].str[:5]) == ["0.750", "1.000"] and list(chat["refused"].str[:5]) == ["0.750", "1.000"]
    assert set(chat["clean"]) == {"–"}
    assert not {"judge", "refused"} & set(summary_table(make_runs({"30k": 35_000}, rounds=(0,))).columns)


def test_losses_are_means_with_the_interval_that_they_are_given(study):
    attacks = chat_tables.read_attacks(study, "s", KINDS)
    table = chat_tables.loss_table(attacks, lambda values: (values.mean(), values.min(), values.max())).to_pylist()
    assert [row["iteration"] for row in table] == [0, 1, 2, 3]
    assert [row["loss"] for row in table] == pytest.approx([3.5, 3.4, 3.0, 2.5])
    last = table[-1]
    assert last["se"] == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2) and last["n"] == 4
    assert (last["ci_low"], last["ci_high"]) == (1, 4)
    assert all(row["ci_low"] is None for row in chat_tables.loss_table(attacks, mean_interval).to_pylist()), "of four"


def test_a_lone_behavior_has_no_interval_and_bad_losses_are_left_out(study):
    make_model(study, "ul")
    make_attack(study, "ul", [(float("nan"), [1.0, float("inf"), 2.0], False, False)])
    rows = [
        row
        for row in chat_tables.loss_table(chat_tables.read_attacks(study, "s", KINDS), mean_interval).to_pylist()
        if row["defense"] == "ul"
    ]
    assert [(row["iteration"], row["loss"], row["se"]) for row in rows] == [(1, 1.0, None), (3, 2.0, None)]


def test_the_worst_case_is_over_attacks_in_text(study):
    make_attack(study, "none", [(*one[:3], i == 1) for i, one in enumerate(BEHAVIORS[:3])], name="pair", kind="pair")
    make_attack(study, "none", [(*one[:3], True) for one in BEHAVIORS], name="ball", kind="embedding")
    (row,) = chat_tables.worst_table(chat_tables.read_attacks(study, "s", KINDS)).to_pylist()
    # Both tried behaviors 0 to 2; GCG broke 0 and 2, PAIR 1.
    assert (row["n_attacks"], row["n_success"], row["n"], row["asr"]) == (2, 3, 3, 1.0)


def test_a_collapsed_model_is_marked_in_every_row(study):
    for defense, answered, perplexity in (
        ("none", 0.95, 10.0),
        ("ul", 0.85, 12.9),
        ("ipo", 0.79, 10.0),
        ("sft", 0.9, 13.1),
        ("ext", None, None),
    ):
        if defense != "none":
            make_model(study, defense)
        make_utility(study, defense, answered, perplexity)
    rows = chat_tables.utility_table(study, "s", KINDS).to_pylist()
    assert {(row["defense"], row["collapsed"]) for row in rows} == {
        ("none", False),
        ("ul", False),
        ("ipo", True),
        ("sft", True),
        ("ext", None),
    }
    relative = {row["defense"]: row["relative"] for row in rows if row["metric"] == "utility_perplexity"}
    assert relative == {"none": 1.0, "ul": 1.29, "ipo": 1.0, "sft": 1.31, "ext": None}


def test_measures_with_jobs_of_their_own_stand_beside_ours(study):
    make_model(study, "ul")
    for defense, acc in (("none", 0.5), ("ul", 0.25)):
        make_utility(study, defense, 0.9, 10.0)
        make_lm_eval(study, defense, acc)
        make_mt_bench(study, defense, 10 * acc)
    rows = chat_tables.utility_table(study, "s", KINDS).to_pylist()
    found = {(row["defense"], row["metric"]): row for row in rows}
    ours = ["utility_perplexity", "harmless_answered"]
    assert [row["metric"] for row in rows] == [*ours, "mmlu", "wikitext", "mt_bench", "mt_bench_unparsed"] * 2
    assert {row["collapsed"] for row in rows} == {False}
    mmlu = found["ul", "mmlu"]
    assert (mmlu["value"], mmlu["n"], mmlu["relative"]) == (0.25, 40, 0.5)
    # Wilson's interval of 10 in 40, and 1.96 standard errors of what is no share.
    assert (mmlu["ci_low"], mmlu["ci_high"]) == (pytest.approx(0.1419, abs=1e-4), pytest.approx(0.4019, abs=1e-4))
    other = found["ul", "wikitext"]
    assert (other["ci_low"], other["ci_high"]) == (pytest.approx(12 - 1.96, abs=1e-3), pytest.approx(13.96, abs=1e-3))
    assert (found["ul", "mt_bench"]["relative"], found["ul", "mt_bench_unparsed"]["value"]) == (0.5, 2.0)


def test_gains_are_paired_by_behavior_and_against_every_baseline(study):
    for defense, gain in (("ul", 1.0), ("ipo", 2.0), ("plain", 0.0), ("sft", 0.5)):
        make_model(study, defense)
        # Behavior 0 was not attacked; every other one gains the same.
        rows = [(clean + 3, [x + gain for x in losses], a, b) for clean, losses, a, b in BEHAVIORS]
        make_attack(study, defense, rows)
    attacks = chat_tables.read_attacks(study, "s", KINDS)
    roles = baseline_roles(study, attacks)
    assert {key[-1]: role for key, role in roles.items()} == {
        "none": "base",
        "plain": "no_attack",
        "sft": "refusal_sft",
    }
    table = gains(attacks, roles)
    found = {(row.defense, row.attack, row.other_role): (row.gain, row.n) for row in table.itertuples()}
    assert found["ul", "gcg", "base"] == pytest.approx((1.0, 4))
    assert found["ipo", "gcg", "refusal_sft"] == pytest.approx((1.5, 4))
    assert found["ipo", "gcg", "no_attack"] == pytest.approx((2.0, 4))
    assert found["ipo", "none", "base"] == pytest.approx((3.0, 4)), "without an attack"
    assert table[["ci_low", "ci_high"]].isna().all(axis=None), "four behaviors are too few for an interval that covers"
    assert ("plain", "gcg", "no_attack") not in found and ("plain", "gcg", "base") in found


def test_roles_of_baselines():
    continuous = {"kind": "c_advul", "attack": None, "away_weight": 0.5}
    assert baseline_role(continuous) == "no_attack"
    assert baseline_role({**continuous, "away_weight": 0}) == "refusal_sft"
    assert baseline_role({**continuous, "attack": {"steps": 10}}) is None
    assert baseline_role({"kind": "c_at", "attack": None}) is None and baseline_role({}) is None


def test_the_entry_writes_every_table_also_of_a_study_without_results(study, tmp_path):
    spec = json.dumps({"study": "s", "defense_kinds": KINDS})
    for root, n_losses in ((study, 4), (tmp_path / "empty", 0)):
        command = [sys.executable, str(ROOT / "scripts/collect_utility.py"), "--spec", spec, "--root", str(root)]
        done = subprocess.run([*command, "--out", str(root / "tables")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        names = {path.name for path in (root / "tables").iterdir()}
        both = {
            f"{stem}.{suffix}"
            for stem in ("utility", "gains", "worst", "correlations")
            for suffix in ("csv", "parquet")
        }
        assert names == {*both, "losses.parquet"}
        assert pq.read_table(root / "tables" / "losses.parquet").num_rows == n_losses


def test_every_figure_is_drawn_from_the_tables_as_they_are_written(study):
    make_utility(study, "none", 0.95, 10.0)
    make_attack(study, "none", name="ball", kind="embedding", eps=0.05)
    for defense, answered in (("ul", 0.9), ("ipo", 0.5), ("plain", 0.95)):
        make_model(study, defense, 70.0)
        make_attack(study, defense, [(c, [x + answered for x in losses], a, b) for c, losses, a, b in BEHAVIORS])
        make_attack(study, defense, name="ball", kind="embedding", eps=0.05)
        make_utility(study, defense, answered, 11.0)
    make_model(study, "ext", None)
    make_attack(study, "ext")
    tables, spec = study / "tables", json.dumps({"study": "s", "defense_kinds": KINDS})

    def entry(name, *arguments):
        command = [sys.executable, str(ROOT / f"scripts/{name}.py"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    root = ("--spec", spec, "--root", study)
    entry("collect", *root, "--out", tables / "runs.parquet", "--csv", tables / "runs.csv")
    entry("cost", *root, "--out", tables / "cost.parquet", "--csv", tables / "cost.csv")
    entry("collect_utility", *root, "--out", tables)
    frames = {path.stem: pq.read_table(path).to_pandas() for path in tables.glob("*.parquet")}
    fits = fit_all(frames["runs"], {}, [0.05])
    for name in (name for name, about in figures().items() if about.victims == "chat"):
        assert_readable_or_message(figure_drawer(name)(frames["runs"], fits, FigureSpec(), frames))
    shown = texts(figure_drawer("robustness_bars")(frames["runs"], fits, FigureSpec(), frames))
    assert {"ipo (collapsed)", "ext", "harmless\nanswered"} <= set(shown)
    assert len(figure_drawer("chat_defense_compute")(frames["runs"], fits, FigureSpec(), frames).axes) == 2
    assert frames["cost"]["defense_flops"].isna().sum() == 1
