"""Real text and a real pretrained model, whole studies: half an hour and more each (`make test-long`)."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hardscale.analysis.intervals import independent_difference

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.long,
    pytest.mark.real_data,
    pytest.mark.timeout(4 * 3600),
    pytest.mark.skipif(not os.environ.get("HARDSCALE_DATA"), reason="real text: set HARDSCALE_DATA to a data root"),
]
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def run_study(name: str, folder: Path) -> pd.DataFrame:
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(ROOT / f"studies/{name}.yaml"), "--cores", str(os.cpu_count())]
    subprocess.run(command, check=True, cwd=ROOT)
    return pq.read_table(folder / f"results/{name}/tables/runs.parquet").to_pandas()


def rescored(study: Path) -> tuple[int, int]:
    """(successes stored, of them confirmed) by one plain forward of each stored text."""
    stored = confirmed = 0
    for path in sorted(study.glob("attacks/**/attack.parquet")):
        rows = [row for row in pq.read_table(path).to_pylist() if row["success"]]
        folder = study / "models" / path.parent.parent.relative_to(study / "attacks") / "model"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        for row in rows:
            with torch.no_grad():
                logits = model(**tokenizer(row["adversarial_text"], return_tensors="pt")).logits
            stored += 1
            confirmed += int(logits.argmax()) != row["label"]
    return stored, confirmed


def last(runs: pd.DataFrame, attack: str) -> pd.DataFrame:
    rows = runs[runs["attack"] == attack]
    return rows[rows["iteration"] == rows["iteration"].max()]


def test_text_study_learns_is_broken_and_is_defended(tmp_path):
    runs = run_study("text", tmp_path)
    largest = runs[(runs["n_params"] == runs["n_params"].max()) & (runs["defense"] == "none")]
    clean = largest.groupby("task")["clean_accuracy"].first()
    assert clean["spam"] >= 0.93
    assert clean["imdb"] >= 0.70
    gcg = last(runs, "gcg")
    gains = []
    for key, before in gcg[(gcg["defense"] == "none") & gcg["task"].isin(["spam", "imdb"])].groupby(["task", "scale"]):
        if before["asr"].iloc[0] < 0.3:
            continue
        task, scale = key
        after = gcg[(gcg["task"] == task) & (gcg["scale"] == scale) & (gcg["defense"] != "none")]
        after = after[after["round"] == after["round"].max()]
        sides = [(int(side["n_success"].iloc[0]), int(side["n_attacked"].iloc[0])) for side in (after, before)]
        gains.append(independent_difference(*sides[0], *sides[1]))
    assert gains, "GCG breaks no model of spam or imdb"
    assert min(high for _, _, high in gains) < 0
    stored, confirmed = rescored(tmp_path / "results/text")
    assert stored > 0
    assert confirmed == stored


@pytest.mark.skipif(not MODEL.is_file(), reason=f"{MODEL.relative_to(ROOT)}: run `make smollm2` first")
def test_a_real_pretrained_decoder_goes_through_every_stage(tmp_path):
    (tmp_path / "models").symlink_to(MODEL.parent)
    runs = run_study("sms", tmp_path)
    assert runs[runs["defense"] == "none"]["clean_accuracy"].iloc[0] >= 0.93
    assert set(runs["round"]) == {0, 1}
    stored, confirmed = rescored(tmp_path / "results/sms")
    assert confirmed == stored
