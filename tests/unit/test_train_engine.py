"""The engine against a plain torch loop, at one and two ranks, and what it lends to attacks."""

import copy

import pytest
import torch
from train_kit import DiedError, in_ranks, tiny_model, tiny_rows

from hardscale.errors import TrainingError
from hardscale.settings.training import OptimizerSettings
from hardscale.training.engine import Engine
from hardscale.training.optimizer_state import read_optimizer_state, write_optimizer_state
from hardscale.training.optimizers import schedule
from hardscale.training.options import RunOptions

SETTINGS = OptimizerSettings(kind="adamw", learning_rate=1e-3, warmup_steps=3, weight_decay=0.01)
N_STEPS = 20
BATCH = 7


def rows_at(step):
    return tiny_rows(BATCH if step % 4 else 5, step)  # every fourth batch is short


def engine_of(group, stage=0, micro=3, settings=SETTINGS, **more):
    options = RunOptions(zero_stage=stage, micro_batch=micro, **more)
    return Engine(
        tiny_model(),
        settings,
        factor=schedule(settings, N_STEPS),
        batch_size=BATCH,
        group=group,
        options=options,
    )


def trained(group, stage, micro, n_steps=N_STEPS):
    """[loss, gradient norm] of each step, and the final weights."""
    engine = engine_of(group, stage, micro)
    history = []
    for step in range(n_steps):
        rows = rows_at(step)
        told = torch.zeros(len(rows), dtype=torch.float64)
        told[group.rank :: group.world] = torch.cat(engine.accumulate(rows, 0)).double()
        history.append([float(group.sum(told).mean()), engine.update()])
    with engine.frozen_module() as module:
        weights = torch.cat([p.flatten() for p in module.parameters()]).tolist()
    return history, weights


def plain(n_steps=N_STEPS):
    """The same training without any of our code but the rows."""
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: (s + 1) / 4 if s < 3 else (N_STEPS - s) / (N_STEPS - 3)
    )
    history = []
    for step in range(n_steps):
        losses = []
        for row in rows_at(step):
            logits = model(input_ids=torch.tensor([row.ids])).logits
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([row.label])))
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        history.append([loss.item(), norm.item()])
    return history


@pytest.fixture(scope="module")
def reference():
    torch.set_num_threads(1)
    return torch.tensor(plain())


@pytest.mark.parametrize(("world", "stage", "micro"), [(1, 0, None), (1, 0, 3), (1, 2, 3), (2, 0, 2), (2, 2, 2)])
def test_parity_with_a_plain_loop(reference, world, stage, micro):
    ranks = in_ranks(trained, stage, micro, world=world)
    history, weights = ranks[0]
    assert (torch.tensor(history)[:, 0] - reference[:, 0]).abs().max() < 1e-5
    assert torch.allclose(torch.tensor(history)[:, 1], reference[:, 1], rtol=1e-3)
    assert all(other == [history, weights] for other in ranks)


def test_parity_of_zero_3_over_two_ranks(reference):
    history, _ = in_ranks(trained, 3, 2, 6, world=2)[0]
    assert (torch.tensor(history)[:, 0] - reference[:6, 0]).abs().max() < 1e-5


def summed(group, stage, n_micro, frozen):
    """Gradient norms and final weights of a training on own forward passes: a sum over rows, parts of unequal sizes."""
    model = tiny_model()
    model.gpt_neox.embed_in.weight.requires_grad_(not frozen)
    engine = Engine(
        model,
        SETTINGS,
        factor=schedule(SETTINGS, N_STEPS),
        batch_size=BATCH,
        group=group,
        options=RunOptions(zero_stage=stage),
        n_micro=n_micro,
    )
    assert engine.n_micro == n_micro
    assert sum(t.numel() for t in engine.optimized_tensors) * (group.world if stage else 1) >= frozen_size(frozen)

    def loss_of(forward, part):
        ids, labels = part
        losses = torch.nn.functional.cross_entropy(forward(input_ids=ids).logits, labels, reduction="sum")
        return losses / 6

    history = []
    for step in range(4):
        parts = own_parts(step)[group.rank :: group.world]
        added = engine.accumulate_parts(parts, loss_of, 0)
        assert [part.requires_grad for part in added] == [False] * n_micro
        told = torch.stack(added).double().sum()[None]
        history.append([float(group.sum(told)), engine.update()])
    with engine.frozen_module() as module:
        weights = torch.cat([p.flatten() for p in module.parameters()])
    return history, weights.tolist(), module.gpt_neox.embed_in.weight.equal(tiny_model().gpt_neox.embed_in.weight)


def handed_to_the_optimizer(group, stage, limit, pinned):
    """Norm of a gradient of norm 30 as the optimizer gets it, and the norm that was said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardscale.training.engine.is_pinned", lambda: pinned)
        module = torch.nn.Linear(4, 4, bias=False)
        settings = OptimizerSettings(kind="adamw", learning_rate=1e-3, max_grad_norm=limit)
        engine = Engine(
            module,
            settings,
            factor=schedule(settings, N_STEPS),
            batch_size=1,
            group=group,
            options=RunOptions(zero_stage=stage),
            n_micro=1,
        )
    engine.accumulate_parts([torch.eye(4)], lambda forward, part: forward(part).sum() * 7.5, 0)
    norms = []
    optimizer = engine.base_optimizer

    def look(*_):
        norms.append(torch.cat([t.grad.flatten() for t in optimizer.param_groups[0]["params"]]).norm().item())

    optimizer.register_step_pre_hook(look)
    return engine.update(), norms


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("limit", [None, 0.3, 1.0, 5.0, 100.0])
def test_gradients_are_clipped_at_the_limit_and_nowhere_else(stage, limit, pinned):
    said, norms = in_ranks(handed_to_the_optimizer, stage, limit, pinned)[0]
    assert said == pytest.approx(30)
    assert norms == [pytest.approx(min(limit or 30, 30), rel=1e-5)]


def frozen_size(frozen):
    return sum(p.numel() for n, p in tiny_model().named_parameters() if not (frozen and "embed_in" in n))


def own_parts(step):
    """Four micro-batches of 1, 3, 1 and 2 rows of equal length."""
    rng = torch.Generator().manual_seed(step)
    return [(torch.randint(1, 40, (n, 5), generator=rng), torch.arange(n) % 3) for n in (1, 3, 1, 2)]


def test_own_forward_passes_give_the_gradient_of_the_whole_sum():
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    factor, wanted = schedule(SETTINGS, N_STEPS), []
    for step in range(4):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * factor(step)
        loss = sum(
            torch.nn.functional.cross_entropy(model(input_ids=row[None]).logits, label[None])
            for ids, labels in own_parts(step)
            for row, label in zip(ids, labels, strict=True)
        )
        optimizer.zero_grad()
        (loss / 6).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        wanted.append([float(loss.detach()) / 6, float(norm)])
    ends = torch.cat([p.detach().flatten() for p in model.parameters()])
    for world, stage in ((1, 0), (2, 0), (2, 2), (2, 3)):
        for history, weights, _ in in_ranks(summed, stage, 4 // world, False, world=world):
            assert torch.allclose(torch.tensor(history), torch.tensor(wanted), atol=1e-5, rtol=1e-3)
            assert (torch.tensor(weights) - ends).abs().max() < 1e-5


@pytest.mark.parametrize(("world", "stage"), [(1, 0), (2, 2), (2, 3)])
def test_parameters_without_gradient_are_left_alone(world, stage):
    assert all(same for *_, same in in_ranks(summed, stage, 4 // world, True, world=world))


def bare_module(group):
    """An engine on a module that is no transformers model; its number of parameters and its gradient norm."""
    torch.manual_seed(0)
    engine = Engine(
        torch.nn.Linear(3, 1, bias=False),
        SETTINGS,
        factor=lambda s: 1.0,
        batch_size=4,
        group=group,
        options=RunOptions(),
        n_micro=2,
    )
    parts = [torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])]
    engine.accumulate_parts(parts, lambda forward, part: forward(part).sum(), 0)
    return engine.n_params, engine.update()


def test_own_forward_passes_need_no_transformers_model():
    [(n_params, norm)] = in_ranks(bare_module)
    assert n_params == 3 and norm == pytest.approx(5**0.5)


def wrong_number(group):
    try:
        engine_of(group).accumulate_parts([1], lambda forward, part: forward(part), 0)
    except TrainingError as error:
        return str(error)
    return None


def test_a_wrong_number_of_micro_batches_is_an_error():
    assert in_ranks(wrong_number) == ["1 micro-batches for an engine of 3; give as many"]


def test_same_ranks_same_bytes():
    assert in_ranks(trained, 0, 2, 5, world=2) == in_ranks(trained, 0, 2, 5, world=2)


def frozen_then_train(group, stage):
    """Losses of a training in which an attack-like gradient is taken before every step, and its gradients' norms."""
    engine = engine_of(group, stage, 2)
    history, norms = [], []
    for step in range(4):
        with engine.frozen_module() as module:
            assert not module.training
            assert not any(p.requires_grad for p in module.parameters())
            ids = torch.tensor([[1, 2, 3, 4]] * (1 + group.rank))  # ranks do unequal work
            for _ in range(1 + group.rank):
                embedded = module.get_input_embeddings()(ids).detach().requires_grad_()
                loss = torch.nn.functional.cross_entropy(
                    module(inputs_embeds=embedded).logits, torch.zeros(len(ids)).long()
                )
                (gradient,) = torch.autograd.grad(loss, embedded)
            norms.append(float(gradient[0].norm() * (1 + group.rank)))
        assert all(p.requires_grad for p in engine.module.parameters())
        assert all(p.grad is None or not p.grad.abs().sum() for p in engine.module.parameters())
        rows = rows_at(step)
        told = torch.zeros(len(rows), dtype=torch.float64)
        told[group.rank :: group.world] = torch.cat(engine.accumulate(rows, 0)).double()
        engine.update()
        history.append(float(group.sum(told).mean()))
    return history, norms


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_attacks_on_the_frozen_module_leave_training_alone(reference, stage):
    ranks = in_ranks(frozen_then_train, stage, world=2)
    assert (torch.tensor(ranks[0][0]) - reference[:4, 0]).abs().max() < 1e-5
    assert torch.allclose(torch.tensor(ranks[0][1]), torch.tensor(ranks[1][1]), rtol=1e-4)


def frozen_restores_after_an_error(group):
    engine = engine_of(group)
    engine.module.train()
    first = next(engine.module.parameters())
    first.requires_grad_(False)
    try:
        with engine.frozen_module():
            raise RuntimeError("in an attack")
    except RuntimeError:
        pass
    wanted = [p.requires_grad for p in engine.module.parameters()]
    return engine.module.training, wanted[0], all(wanted[1:])


def test_frozen_module_is_restored_after_an_error():
    assert in_ranks(frozen_restores_after_an_error) == [[True, False, True]]


def carried_on(group, stage, kind, folder):
    """Weights after 3 + 3 steps: unbroken, and with the optimizer handed over after the third."""
    settings = OptimizerSettings(kind=kind, learning_rate=1e-2, schedule="constant", factored=stage == 0)
    options = RunOptions(zero_stage=stage)

    def make(model):
        return Engine(model, settings, factor=lambda s: 1.0, batch_size=BATCH, group=group, options=options)

    def step(engine, i):
        engine.accumulate(rows_at(i), 0)
        engine.update()

    def weights(engine):
        with engine.frozen_module() as module:
            return torch.cat([p.flatten() for p in module.parameters()]).tolist()

    engine = make(tiny_model())
    for i in range(3):
        step(engine, i)
    write_optimizer_state(engine, folder, group)
    with engine.frozen_module() as module:
        later = copy.deepcopy(module) if stage < 3 else module
    for i in range(3, 6):
        step(engine, i)
    later.requires_grad_(True)
    follower = make(later)
    read_optimizer_state(follower, folder, group)
    for i in range(3, 6):
        step(follower, i)
    return weights(engine) == weights(follower)


@pytest.mark.parametrize(
    ("stage", "kind", "world"), [(0, "adafactor", 1), (0, "adamw", 2), (2, "adafactor", 2), (3, "adamw", 2)]
)
def test_a_carried_optimizer_resumes_byte_for_byte(tmp_path, stage, kind, world):
    assert in_ranks(carried_on, stage, kind, tmp_path / "carry", world=world) == [True] * world


def refused(group, stage):
    try:
        engine_of(group, stage, settings=OptimizerSettings())
    except TrainingError as error:
        return str(error)
    return None


def test_factored_adafactor_under_zero_is_refused():
    [message] = in_ranks(refused, 2)
    assert "--zero-stage 0" in message and "optimizer.factored: false" in message and "adamw" in message


def unfactored(group, stage):
    """Loss of the last step, the notes of the record, and the shapes of the second moments."""
    settings = OptimizerSettings(learning_rate=1e-3, schedule="constant", factored=False)
    engine = engine_of(group, stage, settings=settings)
    for step in range(4):
        told = torch.zeros(len(rows_at(step)), dtype=torch.float64)
        told[group.rank :: group.world] = torch.cat(engine.accumulate(rows_at(step), 0)).double()
        engine.update()
    states = [engine.optimizer_state[tensor] for tensor in engine.optimized_tensors]
    whole = all(
        state["exp_avg_sq"].shape == tensor.shape and "exp_avg_sq_row" not in state
        for state, tensor in zip(states, engine.optimized_tensors, strict=True)
    )
    return float(group.sum(told).mean()), engine.adafactor_is_factored, whole


def test_unfactored_adafactor_keeps_whole_moments_at_every_stage():
    [alone], shared = in_ranks(unfactored, 0), in_ranks(unfactored, 2, world=2)
    assert [rank[1:] for rank in (alone, *shared)] == [[False, True]] * 3
    # Updates are clipped by the size of a tensor or of a partition, so only the first ones are nearly the same.
    assert shared[0] == shared[1] and shared[0][0] == pytest.approx(alone[0], abs=1e-2)


def bfloat16(group):
    engine = engine_of(group, 2, dtype="bfloat16")
    losses = []
    for step in range(4):
        losses.append(float(torch.cat(engine.accumulate(rows_at(step), 0)).mean()))
        engine.update()
    return losses


def test_bfloat16_follows_roughly(reference):
    [losses] = in_ranks(bfloat16)
    assert (torch.tensor(losses) - reference[:4, 0]).abs().max() < 5e-2


def dropout_steps(group, micro):
    options = RunOptions(micro_batch=micro)
    engine = Engine(
        tiny_model(dropout=0.2), SETTINGS, factor=lambda s: 1.0, batch_size=BATCH, group=group, options=options
    )
    return [torch.cat(engine.accumulate(rows_at(step), seed)).tolist() for step, seed in ((1, 8), (1, 8), (1, 9))]


def test_dropout_depends_on_the_steps_seed():
    [(one, same, other)] = in_ranks(dropout_steps, None)
    assert one == same != other


def test_a_rank_that_lives_is_waited_for_longer_than_any_patience():
    assert in_ranks(slow, world=2) == [[0, 1]] * 2


def slow(group):
    import dataclasses
    import time

    from hardscale.runtime import pulse
    from hardscale.training.meeting import Meeting

    group = dataclasses.replace(group, meeting=Meeting(group.rank, group.world, 8.0))
    pulse.start(8.0, group.meeting.beat)
    for _ in range(100 if group.rank == 1 else 0):
        time.sleep(0.1)
        pulse.beat()
    told = group.gather(group.rank)
    pulse.stop()
    return told


def test_a_rank_that_never_comes_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("hardscale.training.distributed.RENDEZVOUS_SECONDS", 1.0)
    with pytest.raises(DiedError, match="rank 1 of 2 did not come"):
        in_ranks(lonely, str(tmp_path))


def lonely(group, place):
    from pathlib import Path

    from hardscale.training.distributed import _wait_for_everyone

    _wait_for_everyone(Path(place) / "meeting", 0, 2)
