"""The search for perturbations against a loop in plain Python, and what holds for every setting of it."""

import math

import pytest
import torch
from attack_fixtures import language_model
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hardscale.attacks.perturb import mean_embedding_norm, perturb
from hardscale.errors import AttackError
from hardscale.settings.defenses import CAt
from hardscale.settings.perturbation import Perturbation

ROWS, TOKENS, HIDDEN = 3, 5, 4
MASK = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]).bool()


def embeds(seed=0, rows=ROWS, dtype=torch.float32):
    return torch.randn(rows, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(seed)).to(dtype)


WEIGHT = torch.randn(TOKENS, HIDDEN, generator=torch.Generator().manual_seed(9))


def losses_of(x):
    """Smooth, one value a row: softplus of a weighted sum, plus a curvature that makes it bounded below."""
    score = (x.float() * WEIGHT).sum(dim=(1, 2))
    return torch.nn.functional.softplus(score) + 0.01 * x.float().square().sum(dim=(1, 2))


def by_hand(x, mask, settings, steps, mean_norm):
    """One row, one coordinate at a time, derivatives written out. Returns vectors, losses and tokens put back."""
    w, x = WEIGHT.tolist(), x.tolist()
    radius = settings.eps and settings.eps * (mean_norm if settings.eps_mode == "relative_norm" else 1)
    size = (
        settings.step_size
        * {"absolute": 1, "relative_eps": radius, "relative_norm": mean_norm}[settings.step_size_mode]
    )
    delta = [[0.0] * HIDDEN for _ in range(TOKENS)]
    first, second = ([[0.0] * HIDDEN for _ in range(TOKENS)] for _ in range(2))
    history, losses, outside = [], [], 0

    def at(d):
        return [[a + b for a, b in zip(u, v, strict=True)] for u, v in zip(x, d, strict=True)]

    def loss_at(z):
        score = sum(a * b for u, v in zip(z, w, strict=True) for a, b in zip(u, v, strict=True))
        return math.log1p(math.exp(score)) + 0.01 * sum(a * a for u in z for a in u), score

    for step in range(1, steps + 1):
        z = at(delta)
        loss, score = loss_at(z)
        losses.append(loss)
        history.append([list(v) for v in delta])
        share = 1 / (1 + math.exp(-score))
        for t in range(TOKENS):
            if not mask[t]:
                continue
            g = [share * w[t][k] + 0.02 * z[t][k] for k in range(HIDDEN)]
            if settings.step_rule == "sign":
                d = [(v > 0) - (v < 0) for v in g]
            elif settings.step_rule == "l2":
                d = [v / math.sqrt(sum(u * u for u in g)) for v in g]
            else:
                d = []
                for k in range(HIDDEN):
                    first[t][k] = 0.9 * first[t][k] + 0.1 * g[k]
                    second[t][k] = 0.999 * second[t][k] + 0.001 * g[k] ** 2
                    d.append(first[t][k] / (1 - 0.9**step) / (math.sqrt(second[t][k] / (1 - 0.999**step)) + 1e-8))
            new = [delta[t][k] - size * d[k] for k in range(HIDDEN)]
            if radius and settings.norm == "l2":
                length = math.sqrt(sum(v * v for v in new))
                if length > radius:
                    new, outside = [v * radius / length for v in new], outside + 1
            elif radius:
                outside += any(abs(v) > radius for v in new)
                new = [min(max(v, -radius), radius) for v in new]
            delta[t] = new
    losses.append(loss_at(at(delta))[0])
    history.append(delta)
    if settings.keep == "best":
        delta = history[min(range(len(losses)), key=losses.__getitem__)]
    return delta, losses, outside / (steps * int(mask.sum())), radius or mean_norm


@pytest.mark.parametrize("step_rule", ["sign", "l2", "adam"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(
    "more",
    [
        {"step_size": 0.05, "eps": 0.12, "eps_mode": "absolute"},
        {"step_size": 0.6, "step_size_mode": "relative_eps", "eps": 0.1, "keep": "best"},
        {"step_size": 0.3, "step_size_mode": "relative_norm", "eps": None},
    ],
)
def test_equals_a_loop_over_rows_and_coordinates(step_rule, norm, more):
    settings = Perturbation(step_rule=step_rule, norm=norm, **more)
    x, steps, mean_norm = embeds(), 6, 1.5
    found = perturb(losses_of, x, MASK, settings, steps, mean_norm, 0)
    assert found.losses.shape == (steps + 1, ROWS)
    shares, ratios = [], []
    for row in range(ROWS):
        delta, losses, outside, unit = by_hand(x[row], MASK[row], settings, steps, mean_norm)
        assert torch.allclose(found.delta[row], torch.tensor(delta), atol=1e-5)
        assert torch.allclose(found.losses[:, row], torch.tensor(losses), atol=1e-4)
        assert float(found.projected[row]) == pytest.approx(outside)
        length = [math.sqrt(sum(v * v for v in d)) if norm == "l2" else max(map(abs, d)) for d in delta]
        own = [length[t] / unit for t in range(TOKENS) if MASK[row, t]]
        assert float(found.largest[row]) == pytest.approx(max(own), abs=1e-4)
        assert float(found.mean[row]) == pytest.approx(sum(own) / len(own), abs=1e-4)
        shares += [outside] * len(own)
        ratios += own
    assert found.projected_share == pytest.approx(sum(shares) / len(shares))
    assert found.max_ratio == pytest.approx(max(ratios), abs=1e-4)
    assert found.mean_ratio == pytest.approx(sum(ratios) / len(ratios), abs=1e-4)


@st.composite
def searches(draw):
    settings = Perturbation(
        step_size=draw(st.floats(1e-4, 5)),
        eps=draw(st.floats(1e-3, 2)),
        eps_mode=draw(st.sampled_from(["absolute", "relative_norm"])),
        step_size_mode=draw(st.sampled_from(["absolute", "relative_eps", "relative_norm"])),
        norm=draw(st.sampled_from(["l2", "linf"])),
        step_rule=draw(st.sampled_from(["sign", "l2", "adam"])),
        init=draw(st.sampled_from(["zero", "uniform_ball"])),
        keep=draw(st.sampled_from(["last", "best"])),
    )
    mask = draw(st.lists(st.lists(st.booleans(), min_size=TOKENS, max_size=TOKENS), min_size=ROWS, max_size=ROWS))
    return settings, torch.tensor(mask), draw(st.integers(0, 12)), draw(st.integers(0, 99))


@settings(deadline=None, max_examples=50)
@given(searches())
def test_what_holds_for_every_search(search):
    settings, mask, steps, seed = search
    x = embeds(seed)
    seen = []

    def watched(z):
        seen.append(z.detach().clone())
        return losses_of(z)

    found = perturb(watched, x, mask, settings, steps, 1.3, seed)
    radius = settings.eps * (1.3 if settings.eps_mode == "relative_norm" else 1.0)
    lengths = found.delta.norm(dim=-1) if settings.norm == "l2" else found.delta.abs().amax(dim=-1)
    assert float(lengths.max()) <= radius * (1 + 1e-5)
    assert found.max_ratio <= 1 + 1e-5 and found.mean_ratio <= found.max_ratio + 1e-6
    assert 0 <= found.projected_share <= 1
    assert bool((found.delta[~mask] == 0).all())
    assert all(bool((z[~mask] == x[~mask]).all()) for z in seen)  # nothing else is ever touched
    assert len(seen) == steps + 1
    final = losses_of(x + found.delta)
    if settings.keep == "best":
        assert bool((final <= found.losses.amin(dim=0) + 1e-6).all())
    else:
        assert torch.equal(final, found.losses[-1])


@settings(deadline=None, max_examples=50)
@given(searches())
def test_best_is_never_worse_than_last(search):
    settings, mask, steps, seed = search
    x = embeds(seed)
    best, last = (
        perturb(losses_of, x, mask, settings.model_copy(update={"keep": keep}), steps, 1.3, seed)
        for keep in ("best", "last")
    )
    assert torch.equal(best.losses, last.losses)
    assert bool((losses_of(x + best.delta) <= losses_of(x + last.delta)).all())


@settings(deadline=None, max_examples=50)
@given(searches(), st.permutations(range(ROWS)))
def test_rows_do_not_depend_on_their_company(search, order):
    settings, mask, steps, seed = search
    x, seeds = embeds(seed), [seed + 10, seed + 20, seed + 30]
    whole = perturb(losses_of, x, mask, settings, steps, 1.3, seeds)
    order = list(order)[:2]
    part = perturb(losses_of, x[order], mask[order], settings, steps, 1.3, [seeds[i] for i in order])
    assert torch.equal(part.delta, whole.delta[order])
    assert torch.equal(part.losses, whole.losses[:, order])


def test_a_random_start_does_not_depend_on_padding():
    settings = Perturbation(init="uniform_ball", eps=0.5, eps_mode="absolute")
    x, wide = embeds(), torch.zeros(ROWS, TOKENS + 3, HIDDEN)
    mask = torch.nn.functional.pad(MASK, (2, 1))

    def nothing(z):
        return z.sum(dim=(1, 2)) * 0

    one, other = perturb(nothing, x, MASK, settings, 0, 1.0, 4), perturb(nothing, wide, mask, settings, 0, 1.0, 4)
    assert torch.equal(one.delta, other.delta[:, 2:-1])
    assert torch.equal(one.delta, perturb(nothing, x, MASK, settings, 0, 1.0, 4).delta)
    assert not torch.equal(one.delta, perturb(nothing, x, MASK, settings, 0, 1.0, 5).delta)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_random_start_is_uniform_in_the_ball(norm):
    settings = Perturbation(init="uniform_ball", eps=2.0, eps_mode="absolute", norm=norm)
    x = torch.zeros(1, 4_000, 2)
    drawn = perturb(lambda z: z.sum(dim=(1, 2)), x, torch.ones(1, 4_000).bool(), settings, 0, 1.0, 0).delta[0]
    inner = drawn.norm(dim=-1) < 1.0
    expected = 1 / 4 if norm == "l2" else math.pi / 16  # share of the ball's area within distance 1
    assert float(inner.float().mean()) == pytest.approx(expected, abs=0.03)
    assert drawn.mean(dim=0).abs().max() < 0.1


@pytest.mark.parametrize("step_rule", ["sign", "l2", "adam"])
def test_the_loss_falls(step_rule):
    settings = Perturbation(step_rule=step_rule, step_size=0.02, eps=0.5, eps_mode="absolute")
    losses = perturb(losses_of, embeds(), MASK, settings, 10, 1.0, 0).losses
    assert bool((losses[1:] < losses[:-1]).all())


def test_steps_are_told_and_the_last_loss_may_be_left_out():
    told, calls = [], []

    def counted(z):
        calls.append(torch.is_grad_enabled())
        return losses_of(z)

    settings = Perturbation(step_size=0.1, eps=None)
    found = perturb(counted, embeds(), MASK, settings, 3, 1.0, 0, lambda step, loss: told.append((step, loss)))
    assert [step for step, _ in told] == [0, 1, 2, 3] and calls == [True, True, True, False]
    assert torch.equal(torch.stack([loss for _, loss in told]), found.losses)
    short = perturb(counted, embeds(), MASK, settings, 3, 1.0, 0, score_last=False)
    assert short.losses.shape == (3, ROWS) and torch.equal(short.delta, found.delta)
    assert len(calls) == 7


def test_perturbations_are_float32_and_parameters_get_no_gradient():
    weight = torch.nn.Parameter(WEIGHT.clone())

    def halves(z):
        assert z.dtype == torch.float16
        return (z * weight.half()).sum(dim=(1, 2)).float() * 1e-8  # below float16's smallest number

    settings = Perturbation(step_size=0.1, eps=None)
    found = perturb(halves, embeds(dtype=torch.float16), MASK, settings, 2, 1.0, 0)
    assert found.delta.dtype == torch.float32 and weight.grad is None
    assert torch.equal(found.delta[MASK].abs(), torch.full_like(found.delta[MASK], 0.2))


def test_a_zero_gradient_moves_nothing():
    for rule in ("sign", "l2", "adam"):
        settings = Perturbation(step_rule=rule, step_size=1.0)
        assert not perturb(lambda z: z.sum(dim=(1, 2)) * 0, embeds(), MASK, settings, 2, 1.0, 0).delta.any()


def test_a_loss_that_is_not_finite_names_the_example_and_the_step():
    def breaks(z):
        losses = losses_of(z)
        moved = (z[2] - embeds()[2]).abs().max() > 0.15
        return torch.where(torch.tensor([False, False, bool(moved)]), torch.tensor(float("nan")), losses)

    settings = Perturbation(step_size=0.1, eps=None)
    with pytest.raises(AttackError, match=r"example c: the loss is not finite at step 2 .* lower step_size"):
        perturb(breaks, embeds(), MASK, settings, 4, 1.0, 0, names=["a", "b", "c"])
    with pytest.raises(AttackError, match="in row 2"):
        perturb(breaks, embeds(), MASK, settings, 4, 1.0, 0)


def test_the_mean_norm_is_of_what_the_module_returns():
    module = language_model("llama").get_input_embeddings()
    rows = module.weight.detach().double()
    assert mean_embedding_norm(module) == pytest.approx(float(rows.norm(dim=-1).mean()), rel=1e-6)

    class Scaled(torch.nn.Embedding):
        def forward(self, ids):
            return super().forward(ids) * 3.0

    scaled = Scaled(5, 2)
    assert mean_embedding_norm(scaled) == pytest.approx(3 * float(scaled.weight.detach().norm(dim=-1).mean()))


def test_settings_that_need_a_ball_are_refused_without_one():
    with pytest.raises(ValidationError, match="relative_eps needs a ball"):
        Perturbation(step_size_mode="relative_eps", eps=None)
    with pytest.raises(ValidationError, match="uniform_ball needs a ball"):
        Perturbation(init="uniform_ball", eps=None)
    with pytest.raises(ValidationError, match="a classifier takes prompt"):
        CAt(kind="c_at", attack={"positions": "suffix"})
