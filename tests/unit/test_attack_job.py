"""The attack job and its command line: which rows are attacked, what is published, and that it repeats to the byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_fixtures import byte_tokenizer, classifier, language_model

from hardscale.artifacts.lease import lease
from hardscale.artifacts.manifest import open_artifact, sha256_file, verify
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK, EXAMPLES
from hardscale.artifacts.tables import read_table, write_table
from hardscale.errors import AttackError, HardscaleError, StudyError
from hardscale.evaluation.attack_job import correct_ones, rescore, run_attack_job
from hardscale.models.load import save_model
from hardscale.tasks.example import Example
from waiting import HANG_SECONDS, wait_until

TOKENIZER = byte_tokenizer()
WORDS = ["garden", "window", "the dog", "a joy", "house", "hill", "man", "film", "cat", "good"]
N_LABELS = 3
SETTINGS: dict[str, Any] = {
    "kind": "gcg",
    "n_iterations": 3,
    "n_candidates": 6,
    "top_k": 12,
    "n_attack_tokens": 4,
    "candidate_rng": "per_example",
}


def spec(**changes: Any) -> dict[str, Any]:
    settings = {**SETTINGS, **changes.pop("settings", {})}
    values = {"cell": "a/b/c/s0", "defense": "none", "round": 0, "attack": "mine", "settings": settings, "seed": 7}
    return {**values, "n_examples": 10, "max_tokens": 100, "shard": 1, "shards": 1, **changes}


def examples(model: Any) -> list[Example]:
    """Ten prompts, of which every third is given a label that the model does not predict."""
    rows = []
    for i, word in enumerate(WORDS):
        chunks = ("Is it good?\n\n", f"The {word} was {WORDS[-i]} to the {word}", "\n\nAnswer:")
        prediction = rescore(model, TOKENIZER, ["".join(chunks)])[0]
        rows.append(Example(100 + i, chunks, 1, (prediction + (i % 3 == 2)) % N_LABELS))
    return rows


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A published victim and task."""
    root = tmp_path_factory.mktemp("artifacts")
    model = classifier(num_labels=N_LABELS)
    with publishing(root / "victim", "model", {}) as draft:
        save_model(model, TOKENIZER, draft.path / "model")
    rows = [
        {"example_id": e.example_id, "chunks": list(e.chunks), "modifiable": e.modifiable, "label": e.label}
        for e in examples(model)
    ]
    with publishing(root / "task", "task", {"name": "a"}) as draft:
        write_table(draft.path / "validation.parquet", rows, EXAMPLES)
        draft.note(labels=[" A", " B", " C"], chunk_kinds=["immutable", "perturbable", "immutable"], pieces=[])
    return root / "victim", root / "task"


def run(folders: tuple[Path, Path], out: Path, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    run_attack_job(*folders, spec(**changes), out)
    verify(out)
    return open_artifact(out, "attack"), read_table(out / "attack.parquet", ATTACK).to_pylist()


def test_correct_examples_are_attacked_towards_the_likeliest_wrong_class(folders: tuple[Path, Path]) -> None:
    model = classifier(num_labels=N_LABELS)
    rows = examples(model)
    found = correct_ones(model, TOKENIZER, rows)
    assert [one.example.example_id for one in found] == [100 + i for i in range(10) if i % 3 != 2]
    for one in found:
        logits = model(**TOKENIZER(one.example.text, return_tensors="pt")).logits[0]
        assert one.prediction == one.example.label == int(logits.argmax())
        assert one.target == int(logits.topk(2).indices[1])


@pytest.mark.parametrize("kind", ["gcg", "random_token"])
@pytest.mark.parametrize("position", ["suffix", "infix90", "prefix"])
def test_rows_tell_the_truth(folders: tuple[Path, Path], tmp_path: Path, kind: str, position: str) -> None:
    manifest, rows = run(folders, tmp_path / "out", settings={"kind": kind, "position": position})
    model = classifier(num_labels=N_LABELS)
    known = {e.example_id: e for e in examples(model)}
    assert [row["example_id"] for row in rows] == [100 + i for i in range(10) if i % 3 != 2]
    n_params = sum(parameter.numel() for parameter in model.parameters())
    for row in rows:
        example = known[row["example_id"]]
        before, after = example.around(position)  # type: ignore[arg-type]
        text = TOKENIZER.decode(row["adversarial_tokens"])
        assert row["adversarial_text"] == before + text + after
        assert row["clean_prediction"] == row["label"] == example.label
        [prediction] = rescore(model, TOKENIZER, [row["adversarial_text"]])
        assert row["success"] == (prediction != row["label"]) == row["successes"][-1]
        hits = [i + 1 for i, success in enumerate(row["successes"]) if success]
        assert row["first_success"] == (hits[0] if hits else None)
        for name in ("losses", "successes", "n_evaluated", "forward_tokens", "flops_exact_by_iteration"):
            assert len(row[name]) == 3
        assert row["n_forward_tokens"] == row["forward_tokens"][-1]
        assert row["n_backward_tokens"] == row["backward_tokens"][-1]
        assert row["flops"] == 2 * n_params * (row["n_forward_tokens"] + 2 * row["n_backward_tokens"])
        assert row["seed"] == 7
    facts = manifest["facts"]
    assert (facts["n_examples"], facts["n_attacked"], facts["n_rows"]) == (10, 7, 7)
    assert (facts["n_params"], facts["attack_kind"], facts["position"]) == (n_params, kind, position)
    assert facts["success_rule"] == "argmax != label" and facts["n_rescored_otherwise"] == 0
    assert (facts["candidates_filtered_share"] is None) == (kind == "random_token")
    assert manifest["spec"]["cell"] == "a/b/c/s0" and set(manifest["inputs"]) == {"victim", "task"}


def test_the_same_job_publishes_the_same_bytes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first, _ = run(folders, tmp_path / "one")
    second, _ = run(folders, tmp_path / "two")
    assert sha256_file(tmp_path / "one" / "attack.parquet") == sha256_file(tmp_path / "two" / "attack.parquet")
    assert first["self"] == second["self"]


def test_shards_together_are_the_whole(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, whole = run(folders, tmp_path / "whole")
    found = []
    for shard in (1, 2, 3):
        manifest, part = run(folders, tmp_path / str(shard), shard=shard, shards=3)
        assert manifest["facts"]["n_attacked"] == 7 and manifest["facts"]["n_rows"] == len(part)
        assert [row["example_id"] for row in part] == [row["example_id"] for row in whole[shard - 1 :: 3]]
        found += part
    for row in sorted(found, key=lambda row: row["example_id"]):
        expected = whole.pop(0)
        assert row["losses"] == pytest.approx(expected["losses"], abs=1e-5)
        assert row | {"losses": None} == expected | {"losses": None}


def test_lists_are_filled_after_an_early_stop(folders: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"n_iterations": 6, "n_candidates": 3, "n_attack_tokens": 2}
    _, full = run(folders, tmp_path / "full", settings=changes)
    _, rows = run(folders, tmp_path / "out", settings={**changes, "early_stop": True})
    assert any(row["first_success"] and row["first_success"] < 6 for row in rows)
    for row, one in zip(rows, full, strict=True):
        end = row["first_success"] or 6
        assert row["first_success"] == one["first_success"]
        assert row["forward_tokens"] == one["forward_tokens"][:end] + [one["forward_tokens"][end - 1]] * (6 - end)
        assert row["n_evaluated"] == one["n_evaluated"][:end] + [0] * (6 - end)


def test_an_attack_in_embedding_space_is_judged_with_its_perturbation(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = {"kind": "embedding", "n_iterations": 4, "perturbation": {"step_size": 0.3, "eps": None}}
    values = spec() | {"settings": settings}
    run_attack_job(*folders, values, tmp_path / "out")
    rows = read_table(tmp_path / "out" / "attack.parquet", ATTACK).to_pylist()
    facts = open_artifact(tmp_path / "out", "attack")["facts"]
    assert len(rows) == 7 and any(row["success"] for row in rows)
    model = classifier(num_labels=N_LABELS)
    for row in rows:  # by the text alone nothing has changed
        assert rescore(model, TOKENIZER, [row["adversarial_text"]]) == [row["label"]]
        assert row["success"] == row["successes"][-1] and len(row["losses"]) == 4
    assert facts["n_rescored_otherwise"] == 0 and facts["candidates_filtered_share"] is None
    assert facts["eps"] is None and "max_ratio" in facts["notes"]


def test_another_model_proposes_the_tokens(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with publishing(tmp_path / "sampler", "base_model", {}) as draft:
        save_model(language_model("llama"), TOKENIZER, draft.path / "model")
    values = spec() | {"settings": {"kind": "beast", "n_iterations": 2, "beam": 2, "branching": 2}}
    run_attack_job(*folders, values, tmp_path / "out", {"sampler": tmp_path / "sampler"})
    rows = read_table(tmp_path / "out" / "attack.parquet", ATTACK).to_pylist()
    manifest = open_artifact(tmp_path / "out", "attack")
    assert len(rows) == 7 and set(manifest["inputs"]) == {"victim", "task", "sampler"}
    assert all(len(row["adversarial_tokens"]) <= 2 for row in rows)
    assert manifest["facts"]["notes"]


def test_nothing_to_attack_is_an_empty_table(folders: tuple[Path, Path], tmp_path: Path) -> None:
    victim, task = folders
    model = classifier(num_labels=N_LABELS)
    wrong = [
        {"example_id": i, "chunks": list(e.chunks), "modifiable": 1, "label": (e.label + (i % 3 != 2)) % N_LABELS}
        for i, e in enumerate(examples(model))
    ]
    with publishing(tmp_path / "task", "task", {"name": "a"}) as draft:
        write_table(draft.path / "validation.parquet", wrong, EXAMPLES)
        draft.note(**open_artifact(task, "task")["facts"])
    for shard, shards in ((1, 1), (2, 2)):
        manifest, rows = run((victim, tmp_path / "task"), tmp_path / "out", shard=shard, shards=shards)
        assert rows == [] and manifest["facts"]["n_attacked"] == 0


def test_more_shards_than_rows_leave_some_empty(folders: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, rows = run(folders, tmp_path / "out", n_examples=2, shard=3, shards=4)
    assert rows == [] and manifest["facts"]["n_attacked"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard": 3, "shards": 2}, "shard 3 of 2"),
        ({"extra": 1}, "unknown key"),
        ({"settings": {"kind": "gcgg"}}, "settings.kind"),
        ({"settings": {"n_iterations": 0}}, "settings.n_iterations"),
    ],
)
def test_a_bad_spec_is_one_line(folders: tuple[Path, Path], tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises((AttackError, StudyError), match=message) as caught:
        run_attack_job(*folders, spec(**changes), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_victim_that_answers_nan_is_named_and_nothing_is_published(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    model = classifier(num_labels=N_LABELS)
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    with publishing(tmp_path / "victim", "model", {}) as draft:
        save_model(model, TOKENIZER, draft.path / "model")
    with pytest.raises(HardscaleError, match="example 100"):
        run_attack_job(tmp_path / "victim", folders[1], spec(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_publishes_from_manifests(folders: tuple[Path, Path], tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "attack.py"
    victim, task = (str(folder / "manifest.json") for folder in folders)
    out, log = tmp_path / "out" / "manifest.json", tmp_path / "log" / "attack.log"
    values = spec()
    del values["shard"], values["shards"]
    values["instruction_set"] = "native"  # as this process is, which is compared with
    command = [sys.executable, str(script), "--spec", json.dumps(values), "--victim", victim, "--task", task]
    done = subprocess.run([*command, "--out", str(out), "--log", str(log)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "7 of 10 examples classified correctly" in done.stderr and "mine: 7 rows published" in done.stderr
    assert open_artifact(out.parent, "attack")["spec"]["shards"] == 1
    run(folders, tmp_path / "here")
    assert sha256_file(tmp_path / "here" / "attack.parquet") == sha256_file(out.parent / "attack.parquet")


@pytest.mark.parametrize(("code", "words"), [("v1", "nothing left to do"), ("v0", "7 rows published")])
def test_a_second_job_waits_and_keeps_what_the_same_code_made(
    folders: tuple[Path, Path], tmp_path: Path, code: str, words: str
) -> None:
    script = Path(__file__).parents[2] / "scripts" / "attack.py"
    out, leases = tmp_path / "attacks" / "gcg", tmp_path / "state" / "leases"
    command = [sys.executable, str(script), "--spec", json.dumps(spec()), "--victim", str(folders[0])]
    command += ["--task", str(folders[1]), "--out", str(out), "--leases", str(leases), "--code", "v1"]
    with lease(out, leases, "orphan", code):
        second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert second.stderr is not None and "waiting for it" in second.stderr.readline()
        run(folders, out)
    assert words in second.communicate(timeout=HANG_SECONDS)[1] and second.returncode == 0
    verify(out)
    assert not list(leases.glob("*.lease"))


def test_a_terminated_job_leaves_no_lease(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "attack.py"
    fifo, leases = tmp_path / "manifest.json", tmp_path / "leases"
    os.mkfifo(fifo)  # it hangs where it reads its victim
    command = [sys.executable, str(script), "--spec", json.dumps(spec()), "--victim", str(fifo), "--task", str(fifo)]
    job = subprocess.Popen([*command, "--out", str(tmp_path / "out"), "--leases", str(leases)], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: list(leases.glob("*.lease")), "the lease", [job])
        job.terminate()
        job.communicate(timeout=HANG_SECONDS)
    finally:
        job.kill()
    assert job.returncode == 128 + signal.SIGTERM
    assert not list(leases.glob("*.lease"))
