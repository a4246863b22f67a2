"""Continuous adversarial training of a tiny classifier: against a plain loop, killed, and over several ranks."""

import json
import signal

import pytest
import torch
from torch.nn.functional import cross_entropy
from train_kit import CELL, DiedError, files_of, finetune_spec, in_ranks, make_base, tiny_model, tiny_rows

from hardscale.artifacts.manifest import MANIFEST, verify
from hardscale.artifacts.schemas import METRICS, TERMS
from hardscale.artifacts.tables import read_table
from hardscale.attacks.codec import Codec
from hardscale.errors import AttackError, TrainingError
from hardscale.models.counts import model_shape
from hardscale.models.flop_counter import FlopCounter
from hardscale.models.flops import exact_forward_flops, exact_input_gradient_flops
from hardscale.models.load import load_classifier
from hardscale.settings.defenses import CAt
from hardscale.settings.training import OptimizerSettings
from hardscale.tasks.data import load_split
from hardscale.training import c_at_step
from hardscale.training.batches import Batch, Order, TokenRow
from hardscale.training.c_at import c_at
from hardscale.training.engine import Engine
from hardscale.training.finetune import finetune
from hardscale.training.options import RunOptions

ATTACK = {"steps": 3, "step_rule": "l2", "step_size": 0.4, "step_size_mode": "relative_eps", "eps": 0.3}
SETTINGS = {
    "kind": "c_at",
    "attack": ATTACK,
    "steps": 7,
    "batch_size": 7,
    "clean_weight": 0.5,
    "adversarial_weight": 1.5,
    "optimizer": {"kind": "adamw", "learning_rate": 2e-3, "schedule": "cosine"},
    "checkpoints": 2,
    "n_clean": 24,
}


def spec_of(**settings):
    chosen = {**SETTINGS, **settings}
    common = {"cell": CELL, "defense": "c_at", "seed": 3, "ranks": 1, "max_tokens": 1000, "settings": chosen}
    return {**common, "first_round": 1, "last_round": chosen["checkpoints"]}


def start_from(group, made, state, out):
    finetune(finetune_spec(), *made, state, out, group, RunOptions())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """(start, task)."""
    root = tmp_path_factory.mktemp("inputs")
    made = make_base(root)
    in_ranks(start_from, made, root / "state", root / "start")
    return root / "start", made[1]


def run(group, spec, start, task, state, outs, options):
    c_at(spec, start, task, state, outs, group, options or RunOptions(save_seconds=0.0))


def train(inputs, root, world=1, fault=None, codes=False, options=None, start=None, **settings):
    spec = spec_of(**settings)
    outs = [root / f"r{number}" for number in range(1, spec["last_round"] + 1)]
    arguments = (spec, start or inputs[0], inputs[1], root / "state", outs, options)
    return in_ranks(run, *arguments, world=world, fault=fault, codes=codes)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    train(inputs, root)
    return root


def terms(folder):
    return read_table(folder / "terms.parquet", TERMS).to_pylist()


def metrics(folder):
    return read_table(folder / "metrics.parquet", METRICS).to_pylist()


def same(one, other, stages=(1, 2)):
    return all(files_of(one / f"r{n}") == files_of(other / f"r{n}") for n in stages)


# --- what is computed -----------------------------------------------------------------------------------------------


def attacked_by_loop(model, ids, label, mean_norm):
    """Perturbed embeddings of one row: three l2 steps away from the label, each token in its ball."""
    embeds = model.get_input_embeddings()(ids).detach()
    delta, radius = torch.zeros_like(embeds), ATTACK["eps"] * mean_norm
    losses, outside = [], 0
    for _ in range(ATTACK["steps"]):
        moved = (embeds + delta).detach().requires_grad_(True)
        loss = cross_entropy(model(inputs_embeds=moved[None]).logits, label[None])
        losses.append(float(loss.detach()))
        [gradient] = torch.autograd.grad(loss, moved)
        for t in range(len(ids)):
            new = delta[t] + ATTACK["step_size"] * radius * gradient[t] / gradient[t].norm()
            outside += bool(new.norm() > radius)
            delta[t] = new * min(1.0, radius / float(new.norm()))
    return delta, losses[0], outside


def plain_training(inputs, n_steps, schedule):
    """The same training one row at a time, without any of our attack or engine."""
    start, task = inputs
    model, tokenizer = load_classifier(start)
    model.eval()
    codec = Codec(tokenizer, model.config.vocab_size)
    examples = load_split(task, "train", tokenizer, 1000)
    order = Order(len(examples), SETTINGS["batch_size"], 3)
    mean_norm = float(model.get_input_embeddings().weight.detach().norm(dim=1).mean())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    told = []
    for step in range(n_steps):
        chosen = [examples[i] for i in order.at(step)[1]]
        both, first, outside, n_tokens = [], [], 0, 0
        for example, encoded in zip(chosen, codec.encode_prompts([e.text for e in chosen]), strict=True):
            ids, label = torch.tensor(encoded), torch.tensor(example.label)
            delta, before, left = attacked_by_loop(model, ids, label, mean_norm)
            first.append(before)
            outside, n_tokens = outside + left, n_tokens + len(ids)
            clean = cross_entropy(model(input_ids=ids[None]).logits, label[None])
            embeds = model.get_input_embeddings()(ids) + delta
            both.append((clean, cross_entropy(model(inputs_embeds=embeds[None]).logits, label[None])))
        loss = torch.stack([0.5 * clean + 1.5 * attacked for clean, attacked in both]).mean()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * schedule(step)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        clean, attacked = (sum(float(pair[i].detach()) for pair in both) / len(both) for i in (0, 1))
        share = outside / (n_tokens * ATTACK["steps"])
        told.append([float(loss.detach()), float(norm), clean, attacked, sum(first) / len(first), share])
    return told, model


def test_equals_a_plain_loop(whole, inputs):
    wanted, model = plain_training(inputs, 7, lambda s: (1 + torch.cos(torch.tensor(torch.pi * s / 7)).item()) / 2)
    made = [row for n in (1, 2) for row in metrics(whole / f"r{n}")]
    said = [row for n in (1, 2) for row in terms(whole / f"r{n}")]
    assert [len(metrics(whole / f"r{n}")) for n in (1, 2)] == [3, 4]
    found = [
        [m["loss"], m["grad_norm"], t["utility"], t["toward"], t["attack_loss_first"], t["projected_share"]]
        for m, t in zip(made, said, strict=True)
    ]
    found, wanted = torch.tensor(found), torch.tensor(wanted)
    assert torch.allclose(found[:, :5], wanted[:, :5], atol=2e-4)
    assert torch.allclose(found[:, 5], wanted[:, 5], atol=0.03)  # a token that just touches the ball counts or not
    trained, _ = load_classifier(whole / "r2")
    for (name, ours), theirs in zip(trained.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-3), name
    assert all(t["toward"] > t["attack_loss_first"] == pytest.approx(t["utility"], abs=1e-5) for t in said)
    assert all(0 < t["mean_ratio"] <= t["max_ratio"] <= 1.0001 for t in said)


def test_what_is_published(whole, inputs):
    start, task = inputs
    model, tokenizer = load_classifier(start)
    shape = model_shape(model.config)
    n, body = sum(p.numel() for p in model.parameters()), shape.n_body_params
    examples = load_split(task, "train", tokenizer, 1000)
    codec = Codec(tokenizer, model.config.vocab_size)
    lengths = [len(ids) for ids in codec.encode_prompts([e.text for e in examples])]
    order, done, exact, convention, passes = Order(len(examples), 7, 3), 0, 0.0, 0.0, 0
    for stage, n_steps in ((1, 3), (2, 4)):
        manifest = verify(whole / f"r{stage}")
        facts, said = manifest["facts"], terms(whole / f"r{stage}")
        rows = [lengths[i] for step in range(done, done + n_steps) for i in order.at(step)[1]]
        done += n_steps
        for length in rows:
            forward = exact_forward_flops(shape, length, 0, 2)
            back = exact_input_gradient_flops(shape, length, 0, 2)
            exact += 3 * (forward + back) + 2 * (forward + back + 2 * (body * length + 2 * shape.width))
            convention += (3 + 2) * 6 * n * length
        passes += 5 * len(rows)
        assert facts["training_flops"] == 6 * n * 2 * sum(rows)
        assert facts["generation_flops"] == 6 * n * 3 * sum(rows)
        assert facts["defense_flops"] == pytest.approx(convention)
        assert facts["defense_flops_exact"] == pytest.approx(exact)
        assert facts["n_forward_passes"] == facts["n_backward_passes"] == passes
        assert facts["n_seen_tokens"] == 2 * sum(lengths[i] for s in range(done) for i in order.at(s)[1])
        assert (facts["round"], facts["cell"], facts["defense"], facts["n_params"]) == (stage, CELL, "c_at", n)
        assert facts["has_weights"] and facts["n_clean"] == 24 and 0 <= facts["attack_asr"] <= 1
        assert facts["max_ratio"] == max(row["max_ratio"] for row in said)
        assert facts["projected_share"] == pytest.approx(sum(row["projected_share"] for row in said) / n_steps)
        weight = model.get_input_embeddings().weight.detach()
        assert facts["mean_embedding_norm"] == pytest.approx(float(weight.norm(dim=1).mean()), rel=1e-6)
        assert manifest["spec"]["round"] == stage and "last_round" not in manifest["spec"]
        load_classifier(whole / f"r{stage}")


# --- kills and ranks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        "kill:c_at:step=1",
        "kill:c_at:step=3",
        "kill:c_at:step=4",
        "kill:c_at:step=7",
        "kill:c_at:save=5",
        "kill:c_at:publish=1",
        "kill:c_at:publish=2",
        "term:c_at:step=5",
    ],
)
def test_a_killed_training_resumes_byte_for_byte(whole, inputs, tmp_path, fault):
    [code] = train(inputs, tmp_path, fault=fault, codes=True)
    assert code == (85 if fault.startswith("term") else -signal.SIGKILL)
    if (tmp_path / "r1" / MANIFEST).exists():
        (tmp_path / "r1" / MANIFEST).unlink()  # as Snakemake does with outputs of a failed job
    train(inputs, tmp_path)
    assert same(whole, tmp_path)
    manifests = [json.loads((root / "r2" / MANIFEST).read_text()) for root in (whole, tmp_path)]
    assert manifests[0]["self"] == manifests[1]["self"] and manifests[0]["facts"] == manifests[1]["facts"]
    assert not (tmp_path / "state" / "finished").exists()


def test_a_random_start_is_the_same_after_a_kill(inputs, tmp_path):
    settings = {"attack": {**ATTACK, "init": "uniform_ball", "keep": "best"}, "checkpoints": 1}
    train(inputs, tmp_path / "one", **settings)
    train(inputs, tmp_path / "two", fault="kill:c_at:step=4", codes=True, **settings)
    train(inputs, tmp_path / "two", **settings)
    assert same(tmp_path / "one", tmp_path / "two", (1,))
    passes = verify(tmp_path / "one" / "r1")["facts"]
    assert passes["n_forward_passes"] - passes["n_backward_passes"] == passes["n_adversarial"]  # best: the last is seen


@pytest.mark.parametrize(
    ("world", "options"),
    [
        (1, RunOptions(micro_batch=3)),
        (2, RunOptions(micro_batch=2)),
        (2, RunOptions(zero_stage=2)),
        (2, RunOptions(zero_stage=3, micro_batch=3)),
    ],
)
def test_ranks_and_micro_batches_change_nothing(whole, inputs, tmp_path, world, options):
    train(inputs, tmp_path, world=world, options=options)
    for stage in (1, 2):
        for table in (metrics, terms):
            ours, theirs = table(whole / f"r{stage}"), table(tmp_path / f"r{stage}")
            for key in ("loss", "grad_norm", "toward", "utility", "attack_loss_first", "mean_ratio", "flops_exact"):
                if key in ours[0]:
                    wanted = pytest.approx([row[key] for row in ours], rel=1e-5, abs=1e-5)
                    assert [row[key] for row in theirs] == wanted, key


def test_bfloat16_follows_roughly(whole, inputs, tmp_path):
    train(inputs, tmp_path, options=RunOptions(zero_stage=2, dtype="bfloat16"))
    wanted = [row["loss"] for row in metrics(whole / "r1")]
    assert [row["loss"] for row in metrics(tmp_path / "r1")] == pytest.approx(wanted, abs=0.1)


def test_a_lost_rank_changes_nothing(inputs, tmp_path):
    train(inputs, tmp_path / "whole", world=2)
    assert all(train(inputs, tmp_path / "broken", world=2, fault="kill:c_at:step=5:rank=1", codes=True))
    train(inputs, tmp_path / "broken", world=2)
    assert same(tmp_path / "whole", tmp_path / "broken")


# --- one step -------------------------------------------------------------------------------------------------------


def one_step(group, n_rows):
    """Losses of one step on rows of several lengths, what was done, and whether the model is as it was."""
    engine = engine_of(group)
    rows = tiny_rows(n_rows, 1)
    settings = CAt.model_validate({**SETTINGS, "batch_size": 7})
    counter = FlopCounter(model_shape(engine.module.config), trains_all=True, reads_last=False)
    step = c_at_step.ClassifierStep(settings, engine, counter, 1.0, 5)
    losses, tally = step.gradients(rows, 2, 9)
    gradients = torch.cat([p.grad.flatten() for p in engine.module.parameters()])
    hooks = len(engine.module.get_input_embeddings()._forward_hooks)
    wanted = all(p.requires_grad for p in engine.module.parameters())
    return torch.cat(losses).tolist(), gradients.norm().item(), tally.tokens, hooks, wanted, engine.module.training


def engine_of(group):
    model, options = tiny_model(), RunOptions(micro_batch=3)
    settings = OptimizerSettings(kind="adamw")
    return Engine(model, settings, factor=lambda s: 1.0, batch_size=7, group=group, options=options)


def test_a_short_step_fills_its_micro_batches():
    """Seven rows in three micro-batches; then two, so that one micro-batch is short and one is empty."""
    for n_rows in (7, 2):
        [(losses, norm, tokens, hooks, wanted, training)] = in_ranks(one_step, n_rows)
        assert len(losses) == n_rows and norm > 0
        assert tokens == sum(len(row.ids) for row in tiny_rows(n_rows, 1))
        assert (hooks, wanted, training) == (0, True, True)


def test_perturbations_are_by_row_and_step():
    """The same row in other company and other micro-batches starts from the same draw; other steps from others."""
    settings = CAt.model_validate({**SETTINGS, "attack": {**ATTACK, "init": "uniform_ball"}})
    model = tiny_model().eval()
    rows = [TokenRow(3, [4, 5, 6], 1), TokenRow(8, [7, 8], 0)]

    def found(part, seed):
        width = max(len(row.ids) for row in part)
        ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in part])
        labels = torch.tensor([row.label for row in part])
        batch = Batch(ids, (ids > 0).long(), labels, torch.ones(len(part)))
        return c_at_step._perturbed(model.requires_grad_(False), part, batch, settings, 1.0, seed).delta

    both, alone = found(rows, 0), found(rows[1:], 0)
    assert torch.allclose(both[1, :2], alone[0], atol=1e-5) and not both[1, 2].any()
    assert not torch.allclose(found(rows[1:], 1), alone, atol=1e-2)


# --- errors ---------------------------------------------------------------------------------------------------------


def refused(group, *arguments):
    try:
        run(group, *arguments, None)
    except (AttackError, TrainingError) as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("start", "settings", "said"),
    [
        ("r1", {}, "its round is 1; 'c_at' starts from 0; give round 0"),
        (None, {"steps": 3, "checkpoints": 4}, "checkpoints: found 4 for 3 steps"),
    ],
)
def test_errors(whole, inputs, tmp_path, start, settings, said):
    spec = spec_of(**settings)
    outs = [tmp_path / f"r{number}" for number in range(1, spec["last_round"] + 1)]
    begin = whole / start if start else inputs[0]
    [message] = in_ranks(refused, spec, begin, inputs[1], tmp_path / "state", outs)
    assert said in message


def test_a_loss_that_is_not_a_number_stops_before_the_update(inputs, tmp_path):
    with pytest.raises(DiedError, match=r"c_at: loss is not finite at step 2 \(examples \d+"):
        train(inputs, tmp_path, fault="nan:c_at:step=2")
    train(inputs, tmp_path)
    assert (tmp_path / "r2" / MANIFEST).exists()
