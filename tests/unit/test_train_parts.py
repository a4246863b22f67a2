"""Order, padding, schedules, exposure, options: the parts of a training step."""

import json
import math
import random
from types import SimpleNamespace

import pytest
import torch
from train_kit import tiny_model, tiny_rows

from hardscale.errors import TrainingError
from hardscale.models.flops import ModelShape, exact_forward_flops
from hardscale.settings.defenses import AttackInTraining
from hardscale.settings.training import ExposureSettings, OptimizerSettings
from hardscale.tasks.example import Example
from hardscale.training.batches import LanguageModeling, Order, TokenRow, collate
from hardscale.training.clean import _batches, accuracy
from hardscale.training.examples import Attacked, Generation, Outcome
from hardscale.training.exposure import Exposure
from hardscale.training.optimizers import build_optimizer, schedule
from hardscale.training.options import RunOptions


def test_every_epoch_sees_every_example_once_in_another_order():
    order = Order(10, 4, 7)
    assert order.steps_per_epoch == 3
    epochs = [[i for step in range(3 * e, 3 * e + 3) for i in order.at(step)[1]] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    assert len(order.at(2)[1]) == 2
    assert Order(10, 4, 7).at(4) == order.at(4)


@pytest.mark.parametrize(("epochs", "steps"), [(3, 9), (0.5, 2), (1 / 3, 1), (0.01, 1)])
def test_fractional_epochs(epochs, steps):
    assert Order(10, 4, 0).n_steps(epochs) == steps


def test_padding_changes_no_logit():
    model = tiny_model().eval()
    rows = tiny_rows(5, 1)
    batch = collate(rows, 7, 0, 3)
    assert batch.weights.tolist() == [1.0] * 5 + [0.0] * 2
    with torch.no_grad():
        together = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        for row, logits in zip(rows, together, strict=False):
            alone = model(input_ids=torch.tensor([row.ids])).logits[0]
            assert torch.allclose(alone, logits, atol=1e-6)


def test_cosine_schedule_warms_up_and_falls_along_half_a_wave():
    factor = schedule(OptimizerSettings(schedule="cosine", warmup_steps=2), 10)
    assert [factor(s) for s in (0, 1)] == pytest.approx([1 / 3, 2 / 3])
    assert [factor(s) for s in (2, 4, 6, 8, 10, 11)] == pytest.approx(
        [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0], abs=1e-12
    )


def test_linear_schedule_warms_up_and_ends_at_zero():
    factor = schedule(OptimizerSettings(warmup_steps=3), 10)
    values = [factor(step) for step in range(11)]
    assert values[:4] == [0.25, 0.5, 0.75, 1.0]
    assert math.isclose(values[9], 1 / 7) and values[10] == 0.0
    constant = schedule(OptimizerSettings(schedule="constant"), 10)
    assert {constant(step) for step in range(20)} == {1.0}


def test_adafactor_is_the_papers():
    model = tiny_model()
    optimizer = build_optimizer(model.parameters(), OptimizerSettings())
    group = optimizer.param_groups[0]
    assert (group["scale_parameter"], group["relative_step"], group["warmup_init"]) == (False, False, False)
    assert (group["clip_threshold"], group["lr"], group["weight_decay"]) == (1.0, 1e-5, 0.0)


class Letters:
    """A codec of one letter a token."""

    allowed = tuple(range(26))

    def spell(self, tokens):
        return ["".join(chr(97 + t) for t in ids) for ids in tokens]


def examples(n):
    return [Example(i, ("q", "word", "a"), 1, 0) for i in range(n)]


def test_exposure_inserts_at_the_suffix_of_the_modifiable_chunk():
    exposure = Exposure(Letters(), ExposureSettings(probability=0.75, max_tokens=4), 1)
    texts = exposure.texts(examples(2_000), 0)
    inserted = [text.removeprefix("qword").removesuffix("a") for text in texts]
    share = sum(bool(text) for text in inserted) / len(texts)
    assert 0.72 < share < 0.78
    lengths = [len(text) for text in inserted if text]
    assert set(lengths) == {1, 2, 3, 4}
    assert all(0.2 < lengths.count(k) / len(lengths) < 0.3 for k in range(1, 5))


def test_exposure_is_keyed_by_epoch_and_example_not_by_order():
    exposure = Exposure(Letters(), ExposureSettings(probability=0.5), 1)
    some = examples(50)
    shuffled = random.Random(0).sample(some, 50)
    by_id = dict(zip([e.example_id for e in shuffled], exposure.texts(shuffled, 3), strict=True))
    assert exposure.texts(some, 3) == [by_id[i] for i in range(50)]
    assert exposure.texts(some, 3) != exposure.texts(some, 4)
    off = Exposure(Letters(), ExposureSettings(), 1)
    assert off.texts(some, 0) == [e.text for e in some]


def test_language_model_losses_ignore_padding():
    objective = LanguageModeling()
    rows = [TokenRow(0, [5, 6, 7]), TokenRow(1, [5, 6])]
    batch = collate(rows, 2, 0, 1)
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 9)
    expected = torch.nn.functional.cross_entropy(logits[1, :1], torch.tensor([6]), reduction="sum")
    assert torch.allclose(objective.row_losses(logits, batch)[1], expected)
    assert [objective.weight(row) for row in rows] == [2, 1]


def test_evaluation_batches_hold_every_row_once_and_bound_their_tokens():
    lengths = [random.Random(i).randint(1, 3_000) for i in range(200)] + [9_000]
    batches = _batches(lengths)
    assert sorted(i for batch in batches for i in batch) == list(range(201))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 4_096 for batch in batches)
    assert accuracy([{"prediction": 1, "label": 1}, {"prediction": 0, "label": 1}]) == 0.5


@pytest.mark.parametrize("wrong", [{"zero_stage": 4}, {"dtype": "bfloat16"}, {"micro_batch": 0}, {"dtype": "float16"}])
def test_wrong_options_are_named(wrong):
    with pytest.raises(TrainingError, match="--"):
        RunOptions(**wrong)


class Alone:
    rank, world, leader = 0, 1, True
    device = torch.device("cpu")

    def gather(self, value):
        return [value]


def test_the_target_of_an_attack_is_the_likeliest_wrong_class(monkeypatch):
    logits = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.1], [0.0, 0.0, 3.0]])
    monkeypatch.setattr("hardscale.training.examples.classify", lambda *a: (logits.clone(), 12))
    shape = ModelShape(1, 2, 8, 1, 1, 10, True, 100)
    monkeypatch.setattr("hardscale.training.examples.model_shape", lambda config: shape)
    session, tokenizer = SimpleNamespace(group=Alone()), SimpleNamespace(pad_token_id=0)
    codec = SimpleNamespace(encode_prompts=lambda texts: [[0] * 4 for _ in texts])

    def targets(examples, n_labels):
        module = SimpleNamespace(config=None)
        begun = Generation(tokenizer, codec, examples, None, 1, 0, session).begin(module, n_labels)
        return begun.targets, begun.n_scored, begun.scored

    three = [Example(i, ("a",), 0, label) for i, label in enumerate([1, 1, 2])]
    assert targets(three, 3) == ([2, 0, 0], 12, [3, 0, 12, 0, 3 * exact_forward_flops(shape, 4, 0, 3)])
    two = [Example(i, ("a",), 0, label) for i, label in enumerate([1, 0])]
    assert targets(two, 2) == ([0, 1], 0, [0, 0, 0, 0, 0])


def test_attacked_examples_survive_json_and_count_their_tokens():
    outcomes = [Outcome("a", True, 10, 4, [2, 1, 10, 4, 7.5]), Outcome("b", False, 20, 0, [4, 0, 20, 0, 1.5])]
    attacked = Attacked([1, 0], 5, [2, 0, 5, 0, 1.0], outcomes)
    assert attacked.work.values() == [8, 1, 35, 4, 10.0]
    assert Attacked.load(json.loads(json.dumps(attacked.dump()))) == attacked
    assert attacked.flops(3) == 2 * 3 * 35 + 4 * 3 * 4
    assert attacked.success_share == 0.5


@pytest.mark.parametrize(
    ("n_params", "kind", "device", "wanted"),
    [
        (1e4, "gcg", "cpu", 128),  # never more
        (1e6, "gcg", "cpu", 3),
        (12e9, "gcg", "cpu", 1),  # never less
        (1e9, "gcg", "cuda", 1),
        (160e6, "gcg", "cuda", 11),
        (1e9, "random_token", "cuda", 128),
    ],
)
def test_examples_between_two_votes_follow_their_work(n_params, kind, device, wanted):
    settings = AttackInTraining(kind=kind)
    session = SimpleNamespace(group=SimpleNamespace(device=torch.device(device)))
    module = SimpleNamespace(parameters=lambda: [SimpleNamespace(numel=lambda: int(n_params))])
    assert Generation(None, None, [], settings, 64, 0, session)._chunk_of_a_rank(module) == wanted
