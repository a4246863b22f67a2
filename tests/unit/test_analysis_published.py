"""Published tables: conversion on made-up files, and agreement with published figures on the real ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hardscale.analysis.fit import fit_all
from hardscale.analysis.published import runs_from_published, training_compute
from hardscale.artifacts.schemas import RUNS
from hardscale.artifacts.tables import read_table
from hardscale.errors import DataError
from hardscale.models.ladder import BUILTIN_FAMILIES

SCRIPT = Path(__file__).parents[2] / "scripts" / "import_published.py"
N_14M = BUILTIN_FAMILIES["pythia"]["14m"].classifier_parameters
N_12B = BUILTIN_FAMILIES["pythia"]["12b"].classifier_parameters


def _evaluation(path: Path, **changes: object) -> Path:
    rows = [
        {
            "asr": round(i * 37 / 180, 6),
            "iteration": i,
            "num_params": n,
            "seed_idx": 0,
            "adv_training_round": r,
            "flops_per_iteration": 9e13,
            "adversarial_eval_pre_attack_accuracy": 0.9,
            "adversarial_eval_n_correct_pre_attack": 180.0,
            "adversarial_eval_n_examples": 200.0,
            "run_name": "=evil",
        }
        for n in (N_14M, N_12B)
        for r in (0, 2)
        for i in (0, 1, 2)
    ]
    frame = pd.DataFrame([*rows, *rows[:2]]).assign(**changes)
    frame.to_csv(path, index=False)
    return path


def _training(path: Path) -> Path:
    rows = [
        {"num_params": N_14M, "seed_idx": 0, "adv_training_round": r, "train_total_flops": r * 1e15} for r in (0, 1, 2)
    ]
    pd.DataFrame(rows * 3).to_csv(path, index=False)
    return path


def test_conversion(tmp_path: Path) -> None:
    table = runs_from_published(
        _evaluation(tmp_path / "e.csv.gz"), "pm", "gcg", "suffix", training_csv=_training(tmp_path / "t.csv")
    )
    assert table.schema.equals(RUNS)
    runs = table.to_pandas()
    assert len(runs) == 12
    assert set(runs["task"]) == {"password_match"}
    last = runs[(runs["scale"] == "14m") & (runs["round"] == 2) & (runs["iteration"] == 2)].iloc[0]
    assert last["attack_flops_per_example"] == pytest.approx(2 * 9e13 / 180)
    assert last["n_success"] == 74
    assert last["defense_flops"] == 2e15
    assert last["defense"] == "adversarial-rounds"
    assert last["pretrain_flops"] == pytest.approx(6 * 7_628_800 * 299_892_736_000)
    assert runs.loc[runs["round"] == 0, "defense"].eq("none").all()
    assert runs.loc[runs["round"] == 0, "defense_flops"].eq(0).all()
    # Unknown compute is null, never 0.
    assert runs.loc[(runs["scale"] == "12b") & (runs["round"] == 2), "defense_flops"].isna().all()


def test_fudge_is_for_the_largest_scale_alone(tmp_path: Path) -> None:
    path = _evaluation(tmp_path / "e.csv")
    plain, fudged = (
        runs_from_published(path, "imdb", "gcg", "suffix", apply_fudge=f).to_pandas() for f in (False, True)
    )
    ratio = fudged["attack_flops_per_example"] / plain["attack_flops_per_example"]
    moved = plain["iteration"] > 0
    assert ratio[moved & (plain["scale"] == "12b")].to_numpy() == pytest.approx(1.6)
    assert (ratio[moved & (plain["scale"] == "14m")] == 1).all()


def test_nothing_attacked_is_null(tmp_path: Path) -> None:
    path = _evaluation(tmp_path / "e.csv", adversarial_eval_n_correct_pre_attack=0.0)
    runs = runs_from_published(path, "imdb", "gcg", "suffix").to_pandas()
    assert runs[["asr", "n_success", "attack_flops_per_example"]].isna().all().all()


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        runs_from_published(tmp_path / "none.csv", "imdb", "gcg", "suffix")
    with pytest.raises(DataError, match="not a size of pythia"):
        runs_from_published(_evaluation(tmp_path / "a.csv", num_params=5), "imdb", "gcg", "suffix")
    with pytest.raises(DataError, match="text where numbers"):
        runs_from_published(_evaluation(tmp_path / "b.csv", asr="high"), "imdb", "gcg", "suffix")
    with pytest.raises(DataError, match="family 'gpt'"):
        runs_from_published(_evaluation(tmp_path / "c.csv"), "imdb", "gcg", "suffix", family="gpt")
    (tmp_path / "d.csv").write_text("num_params,asr\n1,2\n")
    with pytest.raises(DataError, match=r"missing column.*iteration"):
        runs_from_published(tmp_path / "d.csv", "imdb", "gcg", "suffix")
    (tmp_path / "e.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="not a readable CSV"):
        runs_from_published(tmp_path / "e.csv.gz", "imdb", "gcg", "suffix")


def test_the_script_writes_the_same_table(tmp_path: Path) -> None:
    out = tmp_path / "runs.parquet"
    files = ["--evaluation", _evaluation(tmp_path / "e.csv"), "--training", _training(tmp_path / "t.csv"), "--out", out]
    command = [sys.executable, SCRIPT, *files, "--task", "password_match", "--attack-kind", "gcg"]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = runs_from_published(tmp_path / "e.csv", "password_match", "gcg", "suffix", "pythia", tmp_path / "t.csv")
    assert read_table(out, RUNS).equals(wanted)


@pytest.fixture(scope="module")
def reference() -> Path:
    folder = Path(os.environ.get("HARDSCALE_REFERENCE", "/nonexistent"))
    if not (folder / "scale.csv").is_file():
        pytest.skip("set HARDSCALE_REFERENCE to a folder with the paper's published result tables (scale.csv, raw/)")
    return folder


@pytest.fixture(scope="module")
def figures(reference: Path) -> pd.DataFrame:
    return pd.read_csv(reference / "scale.csv")


@pytest.fixture(scope="module")
def imdb_fits(reference: Path) -> pd.DataFrame:
    path = reference / "raw" / "ian_106_gcg_pythia_imdb.csv.gz"
    return fit_all(
        runs_from_published(path, "imdb", "gcg", "suffix", apply_fudge=True).to_pandas(), {"gcg": 10}, [0.05]
    )


@pytest.fixture(scope="module")
def defended(reference: Path) -> pd.DataFrame:
    raw = reference / "raw"
    training = raw / "niki_171_adv_tr_gcg_pm_small.csv.gz"
    table = runs_from_published(raw / "tom_013_eval_niki_171_gcg.csv.gz", "pm", "gcg", "suffix", training_csv=training)
    return table.to_pandas()


@pytest.mark.real_data
def test_imdb_attack_scaling_agrees_with_the_published(imdb_fits: pd.DataFrame, figures: pd.DataFrame) -> None:
    ours = imdb_fits[(imdb_fits["kind"] == "attack_scaling") & (imdb_fits["method"] == "published")].set_index("scale")
    metric = figures[figures["metric"] == "attack_scaling_slope_logit10asr_vs_log10frac"].set_index("size")["value"]
    assert len(metric) == len(ours) == 10
    assert (ours["slope"].astype(float) - metric).abs().max() < 1e-4
    # Published intercepts take the compute of the whole attacked set, ours that of one example.
    intercept = figures[figures["metric"] == "attack_scaling_intercept_logit10asr_vs_log10frac"].set_index("size")[
        "value"
    ]
    by_metric = figures[figures["metric"].str.startswith("flops_per_iter_")].pivot_table("value", "size", "metric")
    attacked = by_metric["flops_per_iter_whole_dataset_mean"] / by_metric["flops_per_iter_per_attacked_example_mean"]
    assert (ours["intercept"] - ours["slope"] * np.log10(attacked) - intercept).drop("12b").abs().max() < 2e-3
    steep = imdb_fits[(imdb_fits["kind"] == "slope_of_slopes") & (imdb_fits["method"] == "published")].iloc[0]
    assert steep["slope"] == pytest.approx(-0.426537, abs=1e-4)
    assert steep["intercept"] == pytest.approx(5.45178, abs=1e-3)


@pytest.mark.real_data
def test_imdb_binomial_keeps_every_point(imdb_fits: pd.DataFrame, figures: pd.DataFrame) -> None:
    ours = imdb_fits[(imdb_fits["method"] == "binomial") & (imdb_fits["kind"] == "attack_scaling")]
    assert (ours["n_points"] == 50).all()
    assert np.isfinite(ours[["slope", "ci_low", "ci_high"]].astype(float)).all().all()
    metric = figures[figures["metric"] == "attack_scaling_slope_logit10asr_vs_log10frac"].set_index("size")["value"]
    assert (ours.set_index("scale")["slope"].astype(float) - metric).abs().max() < 0.25
    size = imdb_fits[(imdb_fits["method"] == "binomial") & (imdb_fits["kind"] == "size")].iloc[0]
    # Laplace-smoothed least squares, which keeps every point as well, gives -0.782.
    assert size["slope"] == pytest.approx(-0.782457, abs=0.05)
    assert size["ci_high"] < 0


@pytest.mark.real_data
def test_defended_success_rates_and_clean_accuracy(defended: pd.DataFrame, figures: pd.DataFrame) -> None:
    theirs = figures[figures["source_csv"] == "evaluation/tom_013_eval_niki_171_gcg.csv"].copy()
    theirs["round"] = theirs["defense"].str.extract(r"@round(\d+)$").astype(int)
    rates = theirs[theirs["metric"] == "asr_median@iter"].set_index(["size", "round", "x"])["value"]
    ours = defended.groupby(["scale", "round", "iteration"])["asr"].median()
    ours.index = ours.index.set_names(["size", "round", "x"])
    assert len(rates) == 100
    assert ours.reindex(rates.index).to_numpy() == pytest.approx(rates.to_numpy(), abs=1e-5)
    clean = theirs[theirs["metric"] == "clean_acc_median"].set_index(["size", "round"])["value"]
    found = defended[defended["iteration"] == 128].groupby(["scale", "round"])["clean_accuracy"].median()
    assert found.reindex(clean.index).to_numpy() == pytest.approx(clean.to_numpy(), abs=1e-5)


@pytest.mark.real_data
def test_training_compute_and_rounds(reference: Path, defended: pd.DataFrame) -> None:
    compute = training_compute(reference / "raw" / "niki_171_adv_tr_gcg_pm_small.csv.gz")
    mean = compute.groupby(["n_params", "round"])["defense_flops"].mean()
    sizes = {name: scale.classifier_parameters for name, scale in BUILTIN_FAMILIES["pythia"].items()}
    facts = {("14m", 1): 2.8e14, ("14m", 60): 7.3e16, ("2.8b", 1): 9.6e16, ("2.8b", 5): 2.13e18}
    for (scale, round_), flops in facts.items():
        assert mean[sizes[scale], round_] == pytest.approx(flops, rel=0.01)
    rounds = compute.groupby("n_params")["round"].max()
    known = zip(["14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b"], [60, 60, 60, 59, 21, 8, 6, 5], strict=True)
    assert {name: rounds[sizes[name]] for name, _ in known} == dict(
        zip(["14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b"], [60, 60, 60, 59, 21, 8, 6, 5], strict=True)
    )
    joined = defended[(defended["round"] >= 1) & (defended["iteration"] == 128)]
    assert joined["defense_flops"].notna().all()
    last = defended[defended["iteration"] == 128].groupby(["scale", "round"])["asr"].median().reset_index()
    first = last[last["asr"] <= 0.10].groupby("scale")["round"].min().to_dict()
    assert first == {"14m": 12, "31m": 12, "70m": 21, "160m": 7, "410m": 4, "1b": 1, "1.4b": 1, "2.8b": 2}


@pytest.mark.real_data
def test_saturated_defended_cells_have_finite_slopes(defended: pd.DataFrame) -> None:
    chosen = defended[defended["scale"].isin(["1b", "1.4b", "2.8b"])]
    assert (chosen["n_success"] == 0).mean() > 0.2
    fits = fit_all(chosen, {}, [0.05])
    ours = fits[(fits["method"] == "binomial") & fits["kind"].isin(["attack_scaling", "defense_scaling"])]
    numbers = ours[["slope", "ci_low", "ci_high"]].astype(float)
    assert np.isfinite(numbers).all().all()
    assert numbers.abs().max().max() < 50
    dropped = fits[(fits["method"] == "published") & (fits["kind"] == "attack_scaling")]
    assert dropped["n_points"].min() < 10


@pytest.mark.real_data
def test_offense_defense_of_counts_lies_in_the_interval_of_the_crossings(defended: pd.DataFrame) -> None:
    """Where too few rounds are broken for an interval of their crossings, there is nothing to lie outside of."""
    fits = fit_all(defended, {}, [0.02])
    fits = fits[fits["kind"] == "offense_defense"].set_index(["method", "scale"])[["slope", "ci_low", "ci_high"]]
    theirs, ours = fits.loc["published"].astype(float), fits.loc["binomial", "slope"].astype(float)
    outside = (ours < theirs["ci_low"]) | (ours > theirs["ci_high"])
    assert len(ours) == 8 and np.isfinite(ours).all()
    assert theirs["ci_low"].notna().sum() == 6 and outside.sum() <= 1
    assert not outside[["14m", "31m", "70m", "160m", "410m"]].any()
