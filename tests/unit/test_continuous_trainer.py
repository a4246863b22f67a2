"""Continuous training end to end on a tiny chat model: what is published, kills, ranks, shuffled data, bad input."""

import json
import signal

import pytest
import torch
from continuous_kit import CELL, make_inputs, make_task, spec
from train_kit import DiedError, files_of, in_ranks

from hardscale.artifacts.manifest import verify
from hardscale.artifacts.schemas import CLEAN, METRICS, TERMS, TIMING
from hardscale.artifacts.tables import read_table
from hardscale.models.chat import ChatTemplate, load_chat_model
from hardscale.runtime.stopping import REQUEUE
from hardscale.training.continuous.trainer import continuous
from hardscale.training.options import RunOptions

EAGER = RunOptions(save_seconds=0.0)  # a checkpoint after every step
LORA = {"rank": 4, "alpha": 8.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def run(group, settings, made, root, options=RunOptions()):  # noqa: B008 - frozen
    continuous(settings, *made, root / "state", root / "out", group, options)


def trained(settings, made, root, options=RunOptions(), world=1):  # noqa: B008 - frozen
    """(rows of METRICS, rows of TERMS) of a training."""
    in_ranks(run, settings, made, root, options, world=world)
    return tuple(read_table(root / "out" / f"{name}.parquet").to_pylist() for name in ("metrics", "terms"))


def losses(rows):
    return [row["loss"] for row in rows]


def weights(folder):
    model, _ = load_chat_model(folder)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def unbroken(made, tmp_path_factory):
    """Published folders of one rank, by kind of training."""
    found = {}
    for name, settings in {"ul": spec(), "lora": spec(lora=LORA), "ipo": spec("c_advipo")}.items():
        root = tmp_path_factory.mktemp(name)
        in_ranks(run, settings, made, root, RunOptions())
        found[name] = root / "out"
    return found


# --- what is published ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ul", "lora", "ipo"])
def test_what_is_published(unbroken, made, name):
    out = unbroken[name]
    manifest = verify(out)
    facts = manifest["facts"]
    kind = "c_advipo" if name == "ipo" else "c_advul"
    assert manifest["kind"] == "model"
    assert (facts["cell"], facts["defense"], facts["round"], facts["clean_accuracy"]) == (CELL, kind, 1, None)
    metrics = read_table(out / "metrics.parquet", METRICS).to_pylist()
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    assert metrics[0]["learning_rate"] == 2e-3 and metrics[2]["learning_rate"] == pytest.approx(1e-3)
    terms = read_table(out / "terms.parquet", TERMS).to_pylist()
    assert [(row["n_adversarial"], row["n_utility"]) for row in terms] == [(6, 0) if name == "ipo" else (3, 3)] * 4
    assert all(row["attack_loss_last"] < row["attack_loss_first"] for row in terms)
    assert all(0 < row["mean_ratio"] <= row["max_ratio"] <= 1 + 1e-6 for row in terms)
    assert read_table(out / "timing.parquet", TIMING).num_rows == 4
    assert read_table(out / "clean.parquet", CLEAN).num_rows == 0
    n_tokens = sum(row["n_tokens"] for row in metrics)
    assert facts["n_seen_tokens"] == n_tokens
    assert facts["training_flops"] == 6 * facts["n_params"] * n_tokens
    assert facts["defense_flops"] == facts["training_flops"] + facts["generation_flops"]
    assert facts["defense_flops_exact"] > 0
    _, tokenizer = load_chat_model(out)
    assert facts["template_sha256"] == ChatTemplate(tokenizer, None).sha256
    assert not torch.equal(weights(out), weights(made[0]))
    assert (out / "adapter").exists() == (name == "lora")
    assert not list((out.parent / "state").glob("*"))


def test_the_merged_model_is_the_base_with_its_adapter(unbroken, made):
    from peft import PeftModel

    base, _ = load_chat_model(made[0])
    adapted = PeftModel.from_pretrained(base, unbroken["lora"] / "adapter").eval()
    ours, _ = load_chat_model(unbroken["lora"])
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, ours(ids).logits, atol=1e-4)


def test_the_loss_is_the_weighted_sum_of_its_terms(unbroken):
    metrics, terms = (read_table(unbroken["ul"] / f"{name}.parquet").to_pylist() for name in ("metrics", "terms"))
    for row, term in zip(metrics, terms, strict=True):
        assert term["toward"] > 0.5 and term["away"] > -5.0 and term["preference"] is None  # no cut-off is reached
        wanted = 0.5 * term["toward"] + 0.5 * term["away"] + term["utility"]
        assert row["loss"] == pytest.approx(wanted, rel=1e-9)
        assert term["away"] == pytest.approx(-term["attack_loss_last"], rel=0.2)  # means over tokens and over rows
    metrics, terms = (read_table(unbroken["ipo"] / f"{name}.parquet").to_pylist() for name in ("metrics", "terms"))
    assert losses(metrics) == [term["preference"] for term in terms]


# --- kills and ranks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault", "code"),
    [
        ("ipo", "kill:continuous:step=3", -signal.SIGKILL),
        ("lora", "kill:continuous:save=2", -signal.SIGKILL),
        ("ul", "kill:continuous:publish=1", -signal.SIGKILL),
        ("ul", "term:continuous:step=2", REQUEUE),
    ],
)
def test_a_broken_run_resumes_and_ends_as_an_unbroken_one(unbroken, made, tmp_path, name, fault, code):
    settings = {"ul": spec(), "lora": spec(lora=LORA), "ipo": spec("c_advipo")}[name]
    assert in_ranks(run, settings, made, tmp_path, EAGER, fault=fault, codes=True) == [code]
    assert not (tmp_path / "out").exists()
    in_ranks(run, settings, made, tmp_path, EAGER)
    assert files_of(tmp_path / "out") == files_of(unbroken[name])
    assert not list((tmp_path / "state").glob("*"))


def test_references_are_read_from_the_state_by_row(made, tmp_path):
    settings = spec("c_advipo")
    in_ranks(run, settings, made, tmp_path, EAGER, fault="kill:continuous:step=1", codes=True)
    kept = tmp_path / "state" / "references.json"
    whole = kept.read_text()
    assert [row[0] for row in json.loads(whole)["rows"]] == [[row, number] for row in range(5) for number in range(2)]
    kept.write_text("{")
    in_ranks(run, settings, made, tmp_path, EAGER, fault="kill:continuous:step=1", codes=True)
    assert kept.read_text() == whole


@pytest.mark.parametrize(
    ("kind", "stage", "micro"), [("c_advul", 0, None), ("c_advipo", 0, 1), ("c_advul", 2, 1), ("c_advul", 3, 2)]
)
def test_two_ranks_train_as_one(unbroken, made, tmp_path, kind, stage, micro):
    options = RunOptions(zero_stage=stage, micro_batch=micro)
    metrics, terms = trained(spec(kind), made, tmp_path, options, world=2)
    alone = unbroken["ipo" if kind == "c_advipo" else "ul"]
    assert losses(metrics) == pytest.approx(losses(read_table(alone / "metrics.parquet").to_pylist()), abs=1e-5)
    for row, other in zip(terms, read_table(alone / "terms.parquet").to_pylist(), strict=True):
        for key, value in row.items():
            if key not in ("forward_passes", "forward_tokens", "flops_exact") or stage == 0:
                assert value == (other[key] if value is None else pytest.approx(other[key], abs=1e-4)), key
    assert (weights(tmp_path / "out") - weights(alone)).abs().max() < 1e-4


def test_cut_offs_hold_for_the_whole_step_whatever_the_micro_batches(made, tmp_path):
    """The slopes depend on means over all rows: a pass beforehand finds the same as one micro-batch that holds all."""
    settings = spec(toward_cutoff=6.2, away_cutoff=-4.9, steps=3)
    whole, terms = trained(settings, made, tmp_path / "whole")
    cut, more = trained(settings, made, tmp_path / "cut", RunOptions(micro_batch=1))
    assert any(row["toward"] < 6.2 for row in terms) and any(row["toward"] >= 6.2 for row in terms)
    assert losses(cut) == pytest.approx(losses(whole), abs=1e-5)
    assert {b["forward_passes"] - a["forward_passes"] for a, b in zip(terms, more, strict=True)} == {6}
    assert {b["backward_passes"] - a["backward_passes"] for a, b in zip(terms, more, strict=True)} == {0}


def test_a_shuffled_task_gives_the_same_training(unbroken, made, tmp_path):
    for name, kind in (("ul", "c_advul"), ("ipo", "c_advipo")):
        task = make_task(tmp_path / f"task-{name}", shuffle=7)
        in_ranks(run, spec(kind), (made[0], task), tmp_path / name)
        for file in ("metrics.parquet", "terms.parquet", "model/model.safetensors"):
            assert files_of(tmp_path / name / "out")[file] == files_of(unbroken[name])[file]


# --- variants -------------------------------------------------------------------------------------------------------


def test_steps_without_adversarial_rows(made, tmp_path):
    _, terms = trained(spec(adversarial_share=0.125, batch_size=4), made, tmp_path, RunOptions(zero_stage=2), world=2)
    assert [row["n_adversarial"] for row in terms] == [0, 1, 0, 1]
    assert [row["toward"] is None and row["attack_loss_first"] is None for row in terms] == [True, False, True, False]
    assert all(row["utility"] > 0 for row in terms)


def test_the_ablation_and_refusal_training(unbroken, made, tmp_path):
    _, terms = trained(spec(attack=None), made, tmp_path / "ablation")
    attacked = read_table(unbroken["ul"] / "terms.parquet").to_pylist()
    assert terms[0]["away"] < attacked[0]["away"]  # the attack makes the harmful answer likelier
    assert terms[0]["utility"] == attacked[0]["utility"]
    assert terms[0]["attack_loss_first"] is None and terms[0]["max_ratio"] is None
    _, terms = trained(spec(attack=None, away_weight=0.0), made, tmp_path / "refusal")
    assert terms[0]["away"] is None
    assert terms[-1]["toward"] < terms[0]["toward"]


@pytest.mark.parametrize(
    "changes",
    [
        {"normalize": "microbatch_mean", "micro_batch": 2},
        {"away_loss": "log_1_minus_p", "cutoff_form": "published", "toward_cutoff": 9.0},
        {"dropout_in_attack": True, "lora": LORA},
        {"attack": {"steps": 1, "step_size": 0.3, "eps": 0.3, "positions": "suffix", "n_suffix_tokens": 2}},
        {"attack": {"steps": 2, "step_rule": "adam", "init": "uniform_ball", "keep": "best", "positions": "user"}},
    ],
)
def test_options_of_c_advul(made, tmp_path, changes):
    metrics, terms = trained(spec(**changes), made, tmp_path)
    assert all(row["grad_norm"] > 0 for row in metrics)
    if "normalize" in changes:
        one, _ = trained(spec(**changes), made, tmp_path / "again", world=2)
        assert losses(one) == pytest.approx(losses(metrics), abs=1e-5)
        plain = 0.5 * terms[0]["toward"] + 0.5 * terms[0]["away"] + terms[0]["utility"]
        assert metrics[0]["loss"] != pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("loss", ["dpo", "npo"])
def test_other_preferences(made, tmp_path, loss):
    metrics, terms = trained(spec("c_advipo", loss=loss), made, tmp_path)
    assert losses(metrics)[-1] < losses(metrics)[0]
    assert (terms[0]["toward"] is None) == (loss == "npo")


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "fault", "said"),
    [
        (spec(quantize="nf4", lora=LORA), None, "quantize: found nf4, which needs a CUDA GPU; set quantize: null"),
        (spec(quantize="nf4"), None, "quantize: found nf4 with lora: null"),
        (spec(lora={"targets": ["nowhere"]}), None, "lora.targets: found "),
        (spec(max_tokens=3), None, "no behavior to train against is left"),
        ({**spec(), "cell": "other"}, None, "its cell is 'fruit/tiny/xs/s0'"),
        (spec(), "nan:continuous:step=2", "continuous: loss is not finite at step 2"),
    ],
)
def test_bad_input_is_one_line(made, tmp_path, settings, fault, said):
    with pytest.raises(DiedError) as error:
        in_ranks(run, settings, made, tmp_path, fault=fault)
    last = str(error.value).strip().splitlines()[-1]
    assert "TrainingError" in last and said in last
