"""Finetuning end to end on a tiny model: what is published, and that a killed job ends as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from train_kit import CELL, DiedError, files_of, finetune_spec, in_ranks, make_base

from hardscale.artifacts.manifest import open_artifact, verify
from hardscale.artifacts.schemas import CLEAN, METRICS, TIMING
from hardscale.artifacts.tables import read_table
from hardscale.errors import ArtifactError
from hardscale.models.load import load_classifier
from hardscale.runtime.stopping import REQUEUE
from hardscale.training.finetune import finetune
from hardscale.training.options import RunOptions
from hardscale.training.pretrain import pretrain
from hardscale.training.session import SEAL, sealed

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
EAGER = RunOptions(save_seconds=0.0)  # a checkpoint after every step


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("inputs"))


def run(group, spec, made, state, out, options=EAGER):
    finetune(spec, *made, state, out, group, options)


@pytest.fixture(scope="module")
def unbroken(made, tmp_path_factory):
    """Published model of one rank and of two."""
    found = {}
    for world in (1, 2):
        root = tmp_path_factory.mktemp(f"unbroken{world}")
        in_ranks(run, finetune_spec(), made, root / "state", root / "out", RunOptions(), world=world)
        found[world] = root / "out"
    return found


def test_what_is_published(unbroken, made):
    manifest = verify(unbroken[1])
    facts = manifest["facts"]
    assert manifest["kind"] == "model"
    assert (facts["round"], facts["defense"], facts["n_labels"], facts["defense_flops"]) == (0, "none", 2, 0.0)
    metrics = read_table(unbroken[1] / "metrics.parquet", METRICS).to_pylist()
    assert [row["step"] for row in metrics] == list(range(1, 9))
    assert [row["n_examples"] for row in metrics] == [6] * 8
    n_tokens = sum(row["n_tokens"] for row in metrics)
    assert facts["n_seen_tokens"] == n_tokens
    assert facts["training_flops"] == 6 * facts["n_params"] * n_tokens
    assert metrics[0]["learning_rate"] == pytest.approx(2e-3 / 3)
    clean = read_table(unbroken[1] / "clean.parquet", CLEAN).to_pylist()
    assert len(clean) == 24
    assert facts["clean_accuracy"] == sum(r["label"] == r["prediction"] for r in clean) / 24
    assert read_table(unbroken[1] / "timing.parquet", TIMING).num_rows == 8
    assert not (unbroken[1].parent / "state" / "checkpoints").exists()
    model, _ = load_classifier(unbroken[1])
    assert sum(p.numel() for p in model.parameters()) == facts["n_params"]


def test_two_ranks_train_the_same_model_within_rounding(unbroken):
    one, two = (read_table(unbroken[w] / "metrics.parquet", METRICS).column("loss").to_pylist() for w in (1, 2))
    assert one == pytest.approx(two, abs=1e-5)


def test_a_base_with_another_number_of_labels_steps_and_epochs(made, tmp_path):
    spec = finetune_spec(steps=None, epochs=0.5, batch_size=8)
    in_ranks(run, spec, made, tmp_path / "state", tmp_path / "out", RunOptions())
    assert read_table(tmp_path / "out" / "metrics.parquet").num_rows == 2


@pytest.mark.parametrize(
    ("world", "fault", "code"),
    [
        (1, "kill:finetune:step=5", -signal.SIGKILL),
        (1, "kill:finetune:save=3", -signal.SIGKILL),
        (1, "kill:finetune:publish=0", -signal.SIGKILL),
        (1, "term:finetune:step=4", REQUEUE),
        (2, "kill:finetune:step=5:rank=1", None),
        (2, "usr2:finetune:step=4:rank=1", REQUEUE),
    ],
)
def test_a_broken_run_resumes_and_ends_as_an_unbroken_one(unbroken, made, tmp_path, world, fault, code):
    state, out = tmp_path / "state", tmp_path / "out"
    codes = in_ranks(run, finetune_spec(), made, state, out, world=world, fault=fault, codes=True)
    assert all(codes), codes
    if code is not None:
        assert codes == [code] * world
    assert not out.exists()
    tags = sorted(state.glob("checkpoints/step*"))
    assert 1 <= len(tags) <= 3
    whole = [tag for tag in tags if sealed(tag)]
    assert len(whole) in (1, 2)
    assert len(tags) == len(whole) + ("save" in fault)
    in_ranks(run, finetune_spec(), made, state, out, world=world)
    assert files_of(out) == files_of(unbroken[world])
    assert not (state / "checkpoints").exists()


def test_damaged_and_foreign_state_is_not_used(unbroken, made, tmp_path):
    state, out = tmp_path / "state", tmp_path / "out"
    in_ranks(run, finetune_spec(), made, state, out, fault="kill:finetune:step=5", codes=True)
    newest = sorted(state.glob("checkpoints/step*"))[-1]
    shard = next(newest.glob("*.pt"))
    shard.write_bytes(shard.read_bytes()[:-100])
    assert sealed(newest) is None
    other = tmp_path / "other"
    in_ranks(run, finetune_spec(steps=3), made, state, other)  # another spec: starts from the beginning
    assert read_table(other / "metrics.parquet").num_rows == 3
    in_ranks(run, finetune_spec(), made, state, out, fault="kill:finetune:step=5", codes=True)
    seal = sorted(state.glob("checkpoints/step*"))[-1] / SEAL
    seal.write_text(json.dumps({**json.loads(seal.read_text()), "files": {"gone": {"bytes": 1, "sha256": ""}}}))
    in_ranks(run, finetune_spec(), made, state, out)  # falls back to the one before
    assert files_of(out) == files_of(unbroken[1])


def test_a_loss_that_is_not_finite_names_step_and_examples(made, tmp_path):
    state, out = tmp_path / "state", tmp_path / "out"
    with pytest.raises(DiedError, match=r"TrainingError: finetune: loss is not finite at step 3 \(examples \d+\)"):
        in_ranks(run, finetune_spec(), made, state, out, fault="nan:finetune:step=3")
    with pytest.raises(ArtifactError):
        open_artifact(out, "model")


def learn(group, spec, made, state, out):
    pretrain(spec, made[0], [made[1]], state, out, group, EAGER)


def test_pretraining_publishes_a_base_with_weights_and_its_compute(made, tmp_path):
    settings = {"steps": 12, "batch_size": 4, "warmup_steps": 1, "max_tokens": 12, "learning_rate": 3e-2}
    spec = {"family": "nano", "scale": "xs", "seed": 2, "ranks": 1, "settings": settings}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    in_ranks(learn, spec, made, tmp_path / "s1", whole)
    in_ranks(learn, spec, made, tmp_path / "s2", broken, fault="kill:pretrain:step=3", codes=True)
    in_ranks(learn, spec, made, tmp_path / "s2", broken)
    assert files_of(whole) == files_of(broken)
    facts = open_artifact(whole, "base_model")["facts"]
    metrics = read_table(whole / "metrics.parquet", METRICS).to_pylist()
    n_tokens = sum(row["n_tokens"] for row in metrics)
    assert facts["has_weights"] and facts["pretrain_tokens"] == n_tokens
    assert facts["pretrain_flops"] == 6 * facts["generative_parameters"] * n_tokens
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    in_ranks(run, finetune_spec(steps=2), (whole, made[1]), tmp_path / "s3", tmp_path / "model")
    assert open_artifact(tmp_path / "model", "model")["facts"]["round"] == 0


def entry(made, tmp_path, fault=None):
    # Native, as the unbroken run of this process is.
    spec = {**finetune_spec(), "ranks": 2, "instruction_set": "native"}
    command = [sys.executable, str(SCRIPTS / "finetune.py"), "--spec", json.dumps(spec)]
    command += ["--base", str(made[0]), "--task", str(made[1]), "--state", str(tmp_path / "state")]
    command += ["--out", str(tmp_path / "out"), "--log", str(tmp_path / "log.txt"), "--save-seconds", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"HARDSCALE_FAULT": fault} if fault else {})}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_entry_survives_a_killed_rank(unbroken, made, tmp_path):
    broken = entry(made, tmp_path, "kill:finetune:step=5:rank=1")
    assert broken.returncode == 1
    assert f"[finetune {CELL}] error: rank 1 of 2 died without an error message" in broken.stderr
    assert "Traceback" not in broken.stderr
    whole = entry(made, tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "resuming after step 4 of 8" in whole.stderr
    assert "Writing model shards" not in whole.stderr
    assert files_of(tmp_path / "out") == files_of(unbroken[2])
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["published.json"]
