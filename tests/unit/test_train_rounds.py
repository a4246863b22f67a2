"""Adversarial rounds end to end on a tiny model: the same rounds however they are cut, killed or spread over ranks."""

import json
import signal

import pytest
from train_kit import DiedError, files_of, finetune_spec, in_ranks, make_base, rounds_spec

from hardscale.artifacts.manifest import MANIFEST, open_artifact, verify
from hardscale.artifacts.schemas import METRICS, POOL
from hardscale.artifacts.tables import read_table
from hardscale.settings.defenses import AdversarialRounds
from hardscale.settings.training import OptimizerSettings
from hardscale.training import examples
from hardscale.training.finetune import finetune
from hardscale.training.optimizers import rounds_schedule
from hardscale.training.options import RunOptions
from hardscale.training.rounds import adversarial_rounds


def start_from(group, made, state, out):
    finetune(finetune_spec(), *made, state, out, group, RunOptions())


def run(group, spec, start, task, state, outs, options=None):
    adversarial_rounds(spec, start, task, state, outs, group, options or RunOptions(save_seconds=0.0))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """(start, task)."""
    root = tmp_path_factory.mktemp("inputs")
    made = make_base(root)
    in_ranks(start_from, made, root / "state", root / "start")
    return root / "start", made[1]


def block(
    inputs, root, first, last, start=None, world=1, fault=None, codes=False, state=None, options=None, **settings
):
    outs = [root / f"r{number}" for number in range(first, last + 1)]
    spec = rounds_spec(first, last, **settings)
    return in_ranks(
        run,
        spec,
        start or inputs[0],
        inputs[1],
        state or root / f"state{first}",
        outs,
        options,
        world=world,
        fault=fault,
        codes=codes,
    )


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """Three rounds in one block."""
    root = tmp_path_factory.mktemp("whole")
    block(inputs, root, 1, 3)
    return root


def same_rounds(one, other, numbers=(1, 2, 3)):
    return all(files_of(one / f"r{n}") == files_of(other / f"r{n}") for n in numbers)


def test_what_is_published(whole, inputs):
    spent, passes = 0.0, 0
    for number in (1, 2, 3):
        manifest = verify(whole / f"r{number}")
        facts = manifest["facts"]
        pool = read_table(whole / f"r{number}" / "pool.parquet", POOL).to_pylist()
        assert len(pool) == 5 * number
        new = pool[-5:]
        assert len({row["example_id"] for row in new}) == 5 and {row["round"] for row in new} == {number}
        metrics = read_table(whole / f"r{number}" / "metrics.parquet", METRICS).to_pylist()
        assert [row["step"] for row in metrics] == [1, 2, 3]
        assert sum(row["n_examples"] for row in metrics) == 14
        assert (facts["n_adversarial"], facts["n_clean_in_set"]) == [(5, 9), (10, 4), (11, 3)][number - 1]
        assert sum(row["last_loss"] is not None for row in pool) >= facts["n_adversarial"]
        n_tokens = sum(row["n_tokens"] for row in metrics)
        assert facts["training_flops"] == 6 * facts["n_params"] * n_tokens
        assert facts["generation_flops"] > 0
        spent += facts["training_flops"] + facts["generation_flops"]
        assert facts["defense_flops"] == spent
        passes += 5 * number + 14  # of GCG one gradient an iteration and example, of training one a row
        assert facts["n_backward_passes"] == passes
        assert facts["n_forward_passes"] > passes
        assert 0 < facts["defense_flops_exact"] < spent  # embeddings are no products, input gradients cost half
        assert facts["attack_asr"] == sum(row["success"] for row in new) / 5
        assert facts["adafactor"] == "factored"
    labels = {row["example_id"]: row["label"] for row in read_table(inputs[1] / "train.parquet").to_pylist()}
    assert all(row["label"] == labels[row["example_id"]] for row in pool)
    first = verify(whole / "r1")["facts"]["generation_flops"]
    assert verify(whole / "r3")["facts"]["generation_flops"] > 2 * first  # 3 iterations after 1


def test_the_attack_of_training_has_one_seed_for_all_rounds_where_the_study_names_it(whole, inputs, tmp_path):
    attack = rounds_spec(1, 1)["settings"]["attack"]
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        block(inputs, tmp_path / name, 1, 1, attack={**attack, "seed": seed})
    texts = [
        [row["text"] for row in read_table(folder / "r1" / "pool.parquet", POOL).to_pylist()]
        for folder in (tmp_path / "one", tmp_path / "same", tmp_path / "other", whole)
    ]
    # The same examples are attacked; only what the attack draws differs.
    assert texts[0] == texts[1] and texts[0] not in texts[2:]


@pytest.mark.parametrize("cuts", [[(1, 1), (2, 2), (3, 3)], [(1, 2), (3, 3)]])
def test_rounds_do_not_depend_on_blocks(whole, inputs, tmp_path, cuts):
    start = None
    for first, last in cuts:
        block(inputs, tmp_path, first, last, start)
        start = tmp_path / f"r{last}"
        assert (start / "carry").is_dir() == (last < 3)
    assert same_rounds(whole, tmp_path)
    manifests = [json.loads((root / "r3" / MANIFEST).read_text()) for root in (whole, tmp_path)]
    assert manifests[0]["self"] == manifests[1]["self"]


def test_fresh_optimizer_each_round_needs_no_carry(inputs, tmp_path):
    optimizer = {"kind": "adamw", "learning_rate": 1e-3, "schedule": "linear"}
    settings = {"carry_optimizer": False, "rounds": 2, "optimizer": optimizer}
    block(inputs, tmp_path / "one", 1, 2, **settings)
    block(inputs, tmp_path / "two", 1, 1, **settings)
    block(inputs, tmp_path / "two", 2, 2, tmp_path / "two" / "r1", **settings)
    assert same_rounds(tmp_path / "one", tmp_path / "two", (1, 2))
    assert not (tmp_path / "two" / "r1" / "carry").exists()
    rates = read_table(tmp_path / "one" / "r2" / "metrics.parquet", METRICS).column("learning_rate").to_pylist()
    assert rates == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3])


@pytest.mark.parametrize(
    "fault",
    [
        "kill:adversarial_rounds:attack=2",
        "kill:adversarial_rounds:step=5",
        "kill:adversarial_rounds:save=7",
        "kill:adversarial_rounds:publish=2",
        "term:adversarial_rounds:step=5",
    ],
)
def test_a_killed_block_resumes_and_keeps_finished_rounds(whole, inputs, tmp_path, fault):
    [code] = block(inputs, tmp_path, 1, 3, fault=fault, codes=True)
    assert code == (85 if fault.startswith("term") else -signal.SIGKILL)
    kept = tmp_path / "state1" / "finished" / "round0001" / "metrics.parquet"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "r1" / MANIFEST).unlink()  # as Snakemake does with outputs of a failed job
    block(inputs, tmp_path, 1, 3)
    assert same_rounds(whole, tmp_path)
    assert (tmp_path / "r1" / "metrics.parquet").stat().st_mtime_ns == stamp  # not trained again
    assert not (tmp_path / "state1" / "finished").exists()


@pytest.fixture
def small_chunks(monkeypatch):
    """Two examples of a rank at a time; ranks are forked and inherit it."""
    monkeypatch.setattr(examples, "LARGEST_CHUNK", 2)


def attacked_in_state(root):
    """How many outcomes each checkpoint holds, oldest first."""
    states = [json.loads(path.read_text()) for path in sorted(root.glob("state1/checkpoints/*/progress.json"))]
    return [(state["round"], len((state["attacked"] or {"outcomes": []})["outcomes"])) for state in states]


@pytest.mark.parametrize(
    ("fault", "saved"),
    [
        ("kill:adversarial_rounds:examples=9", (2, 2)),  # of the second round four are attacked, two are saved
        ("usr2:adversarial_rounds:examples=9", (2, 4)),
        ("term:adversarial_rounds:attack=2", (2, 0)),  # between two iterations
    ],
)
def test_a_kill_between_examples_loses_no_attacked_ones(whole, inputs, tmp_path, small_chunks, fault, saved):
    [code] = block(inputs, tmp_path, 1, 3, fault=fault, codes=True)
    assert code == (-signal.SIGKILL if fault.startswith("kill") else 85)
    assert attacked_in_state(tmp_path)[-1] == saved
    block(inputs, tmp_path, 1, 3)
    assert same_rounds(whole, tmp_path)


def test_many_saves_of_one_step_keep_the_newest(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "LARGEST_CHUNK", 1)
    settings = {"n_new_examples": 14, "rounds": 1}
    block(inputs, tmp_path, 1, 1, fault="kill:adversarial_rounds:examples=13", codes=True, **settings)
    assert attacked_in_state(tmp_path) == [(1, 11), (1, 12)]


@pytest.mark.parametrize("stage", [0, 3])
def test_two_ranks_stop_while_they_attack_and_resume(inputs, tmp_path, small_chunks, stage):
    """Chunks of four and one: in the second, rank 1 has nothing to attack."""
    settings = {"rounds": 1, "optimizer": {"kind": "adamw", "learning_rate": 1e-3}}
    options = RunOptions(zero_stage=stage, save_seconds=0.0)
    block(inputs, tmp_path / "whole", 1, 1, world=2, options=options, **settings)
    more = {"fault": "usr2:adversarial_rounds:examples=4:rank=1", "codes": True, "options": options, **settings}
    assert block(inputs, tmp_path / "broken", 1, 1, world=2, **more) == [85, 85]
    assert attacked_in_state(tmp_path / "broken") == [(1, 4)]
    block(inputs, tmp_path / "broken", 1, 1, world=2, options=options, **settings)
    assert same_rounds(tmp_path / "whole", tmp_path / "broken", (1,))


def test_two_ranks_share_the_work_and_a_lost_rank_changes_nothing(inputs, tmp_path):
    settings = {"rounds": 2, "optimizer": {"kind": "adamw", "learning_rate": 1e-3}}
    block(inputs, tmp_path / "whole", 1, 2, world=2, **settings)
    fault = "kill:adversarial_rounds:step=5:rank=1"
    assert all(block(inputs, tmp_path / "broken", 1, 2, world=2, fault=fault, codes=True, **settings))
    block(inputs, tmp_path / "broken", 1, 2, world=2, **settings)
    assert same_rounds(tmp_path / "whole", tmp_path / "broken", (1, 2))
    block(inputs, tmp_path / "alone", 1, 1, **settings)
    one, two = (read_table(tmp_path / name / "r1" / "metrics.parquet", METRICS) for name in ("alone", "whole"))
    assert one.column("loss").to_pylist() == pytest.approx(two.column("loss").to_pylist(), abs=1e-5)


def test_weights_of_rounds_that_nobody_needs_are_not_published(inputs, tmp_path):
    spec = {**rounds_spec(1, 2, rounds=2), "keep_rounds": [2]}
    in_ranks(run, spec, *inputs, tmp_path / "state", [tmp_path / "r1", tmp_path / "r2"])
    assert not (tmp_path / "r1" / "model").exists()
    assert open_artifact(tmp_path / "r1", "model")["facts"]["has_weights"] is False
    assert (tmp_path / "r2" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_round": 2, "last_round": 3}, "its round is 0; round 2 of 'adv' starts from 1"),
        ({"cell": "imdb/nano/xs/s0"}, "its cell is"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(inputs, tmp_path, change, message):
    spec = {**rounds_spec(1, 2), **change}
    with pytest.raises(DiedError, match=message):
        in_ranks(run, spec, *inputs, tmp_path / "state", [tmp_path / "r1", tmp_path / "r2"])


def test_a_carry_of_another_setup_is_refused(inputs, tmp_path):
    block(inputs, tmp_path, 1, 1)
    with pytest.raises(DiedError, match="ranks 1, now 2"):
        block(inputs, tmp_path, 2, 2, tmp_path / "r1", world=2)
    [seal] = tmp_path.glob("r1/carry/seal.json")
    seal.unlink()
    with pytest.raises(DiedError, match="no whole optimizer state"):
        block(inputs, tmp_path, 2, 2, tmp_path / "r1")


def test_schedules_over_rounds():
    carried = AdversarialRounds(optimizer=OptimizerSettings(schedule="linear"))
    whole = rounds_schedule(carried, [4, 6], 0)
    assert [whole(s) for s in range(10)] == pytest.approx([1 - s / 10 for s in range(10)])
    assert rounds_schedule(carried, [4, 6], 4)(0) == whole(4)
    fresh = carried.model_copy(update={"carry_optimizer": False})
    each = rounds_schedule(fresh, [4, 6], 0)
    assert [each(s) for s in range(10)] == pytest.approx([1 - s / 4 for s in range(4)] + [1 - s / 6 for s in range(6)])
    assert rounds_schedule(fresh, [4, 6], 4)(1) == each(5)
