"""The tiny study, from nothing to figures and a report: the contract of its table, its successes, its integrity."""

import re
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from frozen import assert_frozen

# Columns that others rely on, in this order; further ones may follow.
CONTRACT = """
    study task family scale n_params seed defense defense_kind round attack attack_kind position iteration n_examples
    n_attacked n_success asr n_success_any asr_any clean_accuracy attack_flops_per_example defense_flops pretrain_flops
"""
NULLABLE = """
    attack_seed success_rule judge eps n_forward_passes n_backward_passes attack_flops_exact n_seen_tokens
"""
FIGURES = [
    "asr_vs_parameters",
    "attack_scaling",
    "attack_comparison",
    "asr_by_round",
    "defense_scaling",
    "offense_defense",
    "clean_accuracy",
]
N_EXAMPLES, N_TRAIN, N_VALIDATION = 24, 19200, 120
ITERATIONS = {"gcg": 8, "random-token": 24}
CELL = Path("password_match/nano/30k/s0")
VICTIMS = {("none", 0): CELL / "none/r00", ("adversarial-rounds", 1): CELL / "adversarial-rounds/r01"}


def rows_of(path):
    return pq.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def runs(tiny):
    return rows_of(tiny.results / "tables" / "runs.parquet")


@pytest.fixture(scope="module")
def attacks(tiny):
    """(defense, round, attack) -> rows of attack.parquet."""
    return {
        (*key, attack): rows_of(tiny.results / "attacks" / folder / attack / "attack.parquet")
        for key, folder in VICTIMS.items()
        for attack in ITERATIONS
    }


@pytest.fixture(scope="module")
def victims(tiny):
    """(defense, round) -> a plain function from a text to the predicted class, with no code of ours; and its size."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    def loaded(folder):
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)

        @torch.no_grad()
        def predict(text):
            return int(model(**tokenizer([text], return_tensors="pt")).logits[0].argmax())

        return predict, tokenizer, sum(parameter.numel() for parameter in model.parameters())

    return {key: loaded(tiny.results / "models" / folder / "model") for key, folder in VICTIMS.items()}


# --- running --------------------------------------------------------------------------------------------------------


def test_every_output_is_there(tiny):
    for name in FIGURES:
        png, svg = (tiny.results / "figures" / f"{name}.{suffix}" for suffix in ("png", "svg"))
        assert png.read_bytes().startswith(b"\x89PNG\r\n"), name
        assert svg.read_text(encoding="utf-8").rstrip().endswith("</svg>"), name
    for name in ("runs", "fits", "claims"):
        assert (tiny.results / "tables" / f"{name}.csv").read_text().count("\n") > 1
        assert pq.read_table(tiny.results / "tables" / f"{name}.parquet").num_rows > 0
    assert "| password\\_match | nano | 30k |" in (tiny.results / "tables" / "summary.md").read_text()
    assert not (tiny.results / "state").exists() or not any((tiny.results / "state").rglob("*.pt"))
    assert not list(tiny.results.rglob("*.tmp-*"))


def test_what_it_computes_is_what_it_computed(tiny):
    assert_frozen(tiny.results)


def test_nothing_is_written_among_the_sources(tiny):
    assert not (tiny.sources / "results").exists()
    assert not (tiny.sources / ".snakemake").exists()


def test_a_second_run_has_nothing_to_do(tiny):
    done = tiny.snakemake()
    assert done.status == 0
    assert "Nothing to be done" in done.text


def test_the_report_holds_the_figures_and_their_captions(tiny):
    done = tiny.snakemake("--report", "report.html")
    assert done.status == 0, done.text
    html = (tiny.folder / "report.html").read_text(encoding="utf-8")
    flat = " ".join(html.split())
    for name in [*FIGURES, "summary"]:
        caption = (tiny.sources / "workflow" / "report" / f"{name}.rst").read_text(encoding="utf-8")
        first = " ".join(re.search(r"\*\*(.+?)\*\*", caption, re.DOTALL)[1].split())
        assert first in flat, name
    for name in FIGURES:
        assert f"filename={name}.png;base64,iVBOR" in html, name
    assert "This study differs from the paper:" in flat
    assert "random tokens in 50 % of finetuning prompts" in flat


# --- the table of runs ----------------------------------------------------------------------------------------------


def test_columns(tiny):
    names = pq.read_schema(tiny.results / "tables" / "runs.parquet").names
    assert names[: len(CONTRACT.split())] == CONTRACT.split()
    assert set(NULLABLE.split()) <= set(names)


def test_one_row_per_cell_attack_and_iteration(runs):
    found = defaultdict(list)
    for row in runs:
        coordinates = [row[name] for name in ("study", "task", "family", "scale", "seed")]
        assert coordinates == ["tiny", "password_match", "nano", "30k", 0]
        assert row["defense_kind"] == {"none": "none", "adversarial-rounds": "adversarial_rounds"}[row["defense"]]
        assert row["attack_kind"] == row["attack"].replace("-", "_")
        assert row["position"] == "suffix"
        found[row["defense"], row["round"], row["attack"]].append(row["iteration"])
    # Round 0 stands once, as defense none.
    wanted = {(*key, attack): list(range(n + 1)) for key in VICTIMS for attack, n in ITERATIONS.items()}
    assert found == wanted


def test_success_rates_are_those_of_the_rows(runs, attacks):
    for row in runs:
        table = attacks[row["defense"], row["round"], row["attack"]]
        i = row["iteration"]
        assert (row["n_examples"], row["n_attacked"]) == (N_EXAMPLES, len(table))
        held = sum(one["successes"][i - 1] for one in table) if i else 0
        ever = sum(any(one["successes"][:i]) for one in table)
        assert (row["n_success"], row["n_success_any"]) == (held, ever)
        assert (row["asr"], row["asr_any"]) == (held / len(table), ever / len(table))


def test_attack_compute_is_cumulative_and_counted_from_tokens(runs, attacks, victims):
    before = {}
    for row in runs:
        key, i = (row["defense"], row["round"], row["attack"]), row["iteration"]
        _, _, n = victims[key[:2]]
        assert row["n_params"] == n
        table = attacks[key]
        forward = sum(one["forward_tokens"][i - 1] for one in table) / len(table) if i else 0
        backward = sum(one["backward_tokens"][i - 1] for one in table) / len(table) if i else 0
        assert row["attack_flops_per_example"] == pytest.approx(2 * n * forward + 4 * n * backward, rel=1e-12)
        assert row["attack_flops_per_example"] > before.get(key, -1)
        before[key] = row["attack_flops_per_example"]
        assert (backward > 0) == (row["attack"] == "gcg" and i > 0)
        assert row["n_forward_passes"] >= i
    for key, table in attacks.items():
        n = victims[key[:2]][2]
        for one in table:
            assert one["flops"] == 2 * n * one["n_forward_tokens"] + 4 * n * one["n_backward_tokens"]
            assert one["forward_tokens"] == sorted(one["forward_tokens"])
            assert one["forward_tokens"][-1] == one["n_forward_tokens"]
            assert one["backward_tokens"][-1] == one["n_backward_tokens"]


def test_training_compute_is_counted_from_the_training_history(tiny, runs, victims):
    n = victims["none", 0][2]
    tokens = {
        key: sum(row["n_tokens"] for row in rows_of(tiny.results / "models" / folder / "metrics.parquet"))
        for key, folder in VICTIMS.items()
    }
    for row in runs:
        assert row["pretrain_flops"] == 6 * n * tokens["none", 0]  # made here: finetuning is all that it has seen
        if row["defense"] == "none":
            assert row["defense_flops"] == 0
        else:
            assert row["defense_flops"] > 6 * n * tokens["adversarial-rounds", 1]  # training, and making the examples


# --- the models and the texts ---------------------------------------------------------------------------------------


def test_exactly_the_correctly_classified_examples_are_attacked(tiny, attacks, victims):
    examples = rows_of(tiny.results / "tasks" / "password_match" / "validation.parquet")
    assert len(examples) == N_VALIDATION
    assert pq.read_table(tiny.results / "tasks" / "password_match" / "train.parquet").num_rows == N_TRAIN
    for key, table in attacks.items():
        predict = victims[key[:2]][0]
        correct = [e["example_id"] for e in examples[:N_EXAMPLES] if predict("".join(e["chunks"])) == e["label"]]
        assert [row["example_id"] for row in table] == correct
        assert all(row["clean_prediction"] == row["label"] for row in table)


def test_clean_accuracy_is_that_of_a_plain_forward(tiny, runs, victims):
    examples = rows_of(tiny.results / "tasks" / "password_match" / "validation.parquet")[:64]
    for key, (predict, _, _) in victims.items():
        right = sum(predict("".join(e["chunks"])) == e["label"] for e in examples)
        assert {row["clean_accuracy"] for row in runs if (row["defense"], row["round"]) == key} == {right / 64}


def test_every_success_holds_when_its_text_is_read_again(attacks, victims):
    outcomes = set()
    for key, table in attacks.items():
        predict = victims[key[:2]][0]
        for row in table:
            assert row["success"] == (predict(row["adversarial_text"]) != row["label"]), (key, row["example_id"])
            assert row["success"] == row["successes"][-1]
            outcomes.add(row["success"])
    assert outcomes == {True, False}  # else the agreement would say nothing


def test_the_attacked_prompt_is_the_prompt_with_the_attack_text_in_its_place(tiny, attacks, victims):
    examples = {e["example_id"]: e for e in rows_of(tiny.results / "tasks" / "password_match" / "validation.parquet")}
    for key, table in attacks.items():
        tokenizer = victims[key[:2]][1]
        for row in table:
            example = examples[row["example_id"]]
            place = example["modifiable"]
            before, after = "".join(example["chunks"][: place + 1]), "".join(example["chunks"][place + 1 :])
            assert row["adversarial_text"] == before + tokenizer.decode(row["adversarial_tokens"]) + after
            assert len(row["adversarial_tokens"]) == 10


# --- integrity ------------------------------------------------------------------------------------------------------


def test_verify_passes_and_names_an_artifact_with_one_flipped_byte(tiny):
    done = tiny.snakemake("verify")
    assert done.status == 0, done.text
    victim = tiny.results / "attacks" / CELL / "none/r00/gcg/attack.parquet"
    whole = victim.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    victim.write_bytes(flipped)
    try:
        broken = tiny.entry("verify", "--root", tiny.results, "--log", tiny.folder / "verify.log")
    finally:
        victim.write_bytes(whole)
    broken.refused("results/tiny", "1 of 8 artifacts")
    named = [line for line in broken.text.splitlines() if "bytes differ" in line]
    assert len(named) == 1
    assert f"attacks/{CELL}/none/r00/gcg/attack.parquet" in named[0]
