"""runs.parquet against rows counted by hand."""

import pytest

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK
from hardscale.artifacts.tables import write_table
from hardscale.errors import ArtifactError
from hardscale.evaluation.collect import collect_runs

CELL = "imdb/nano/30k/s1"
SETTINGS = {"kind": "gcg", "position": "suffix", "n_iterations": 3, "early_stop": False}


def row(example_id, successes, first):
    return {
        "example_id": example_id,
        "label": 0,
        "clean_prediction": 0,
        "adversarial_text": "x",
        "adversarial_tokens": [1],
        "success": successes[-1],
        "first_success": first,
        "losses": [0.0] * 3,
        "successes": successes,
        "n_evaluated": [2] * 3,
        "forward_tokens": [10, 20, 30 + example_id],
        "backward_tokens": [1, 2, 3],
        "flops_exact_by_iteration": [1.0, 2.0, 3.0],
        "forward_passes": [3, 6, 9],
        "backward_passes": [1, 2, 3],
        "n_forward_tokens": 30,
        "n_backward_tokens": 3,
        "flops": 1.0,
        "seed": 0,
    }


def make_study(root, shards=1, settings=SETTINGS, scratch=True):
    with publishing(root / "base/nano/30k", "base_model", {}) as draft:
        draft.note(scratch=scratch, pretrain_flops=None if scratch else 7.0)
    for defense, number, flops in (("none", 0, 0.0), ("rounds", 1, 50.0)):
        with publishing(root / f"models/{CELL}/{defense}/r{number:02d}", "model", {}) as draft:
            draft.note(
                n_params=100, clean_accuracy=0.75, n_clean=8, defense_flops=flops, training_flops=60.0, n_seen_tokens=5
            )
    rows = [row(0, [False, True, False], 2), row(1, [True, True, True], 1)]
    for shard in range(1, shards + 1):
        part = "gcg" if shards == 1 else f"gcg.{shard}of{shards}"
        spec = {
            "cell": CELL,
            "defense": "rounds",
            "round": 1,
            "attack": "gcg",
            "settings": settings,
            "shard": shard,
            "shards": shards,
        }
        with publishing(root / f"attacks/{CELL}/rounds/r01/{part}", "attack", spec) as draft:
            write_table(draft.path / "attack.parquet", rows[shard - 1 :: shards], ATTACK)
            draft.note(n_examples=4, n_attacked=2, success_rule="argmax != label")
    return root


@pytest.mark.parametrize("shards", [1, 2])
def test_rows_count_held_and_ever_successes_and_flops(tmp_path, shards):
    runs = collect_runs(make_study(tmp_path, shards), "s", {"none": "none", "rounds": "adversarial_rounds"}).to_pylist()
    assert [r["iteration"] for r in runs] == [0, 1, 2, 3]
    assert [r["asr"] for r in runs] == [0.0, 0.5, 1.0, 0.5]
    assert [r["asr_any"] for r in runs] == [0.0, 0.5, 1.0, 1.0]
    # 2 N (forward + 2 backward) with N = 100; the two examples differ by one token at the last iteration.
    assert [r["attack_flops_per_example"] for r in runs] == [0, 200 * 12, 200 * 24, 200 * (30.5 + 6)]
    assert {r["defense_flops"] for r in runs} == {50.0}
    assert {r["pretrain_flops"] for r in runs} == {60.0}, "a scratch model's pretraining is its finetuning"
    assert {(r["n_examples"], r["n_attacked"], r["seed"], r["defense_kind"]) for r in runs} == {
        (4, 2, 1, "adversarial_rounds")
    }


def test_pretraining_of_a_given_model_is_its_own(tmp_path):
    runs = collect_runs(make_study(tmp_path, scratch=False), "s", {"rounds": "adversarial_rounds"}).to_pylist()
    assert {r["pretrain_flops"] for r in runs} == {7.0}


def test_asr_is_null_after_an_early_stop(tmp_path):
    study = make_study(tmp_path, settings={**SETTINGS, "early_stop": True})
    runs = collect_runs(study, "s", {"rounds": "adversarial_rounds"}).to_pylist()
    assert [r["asr"] for r in runs] == [0.0, None, None, None]
    assert [r["asr_any"] for r in runs] == [0.0, 0.5, 1.0, 1.0]


def test_a_missing_shard_is_named(tmp_path):
    make_study(tmp_path, shards=2)
    (tmp_path / f"attacks/{CELL}/rounds/r01/gcg.2of2/manifest.json").unlink()
    with pytest.raises(ArtifactError, match="1 shard"):
        collect_runs(tmp_path, "s", {"rounds": "adversarial_rounds"})
