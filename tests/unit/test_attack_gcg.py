"""GCG from end to end: its rules, its trajectories alone and in company, and what it costs."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from attack_fixtures import CONFIGS, PROMPTS, byte_tokenizer, classifier, language_model, plain_logits
from torch.nn.functional import cross_entropy

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks import gcg
from hardscale.attacks.base import attack
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult
from hardscale.errors import AttackError
from hardscale.evaluation.attack_job import rescore
from hardscale.models.counts import model_shape
from hardscale.models.flops import exact_forward_flops, exact_input_gradient_flops, exact_token_gradient_flops

TOKENIZER = byte_tokenizer()
CODEC = Codec(TOKENIZER, len(TOKENIZER))
N = len(PROMPTS)
KEYS = [3, 1, 4, 15, 9]


def run(model: Any, prompts: Any = PROMPTS, **options: Any) -> list[AttackResult]:
    values = {"n_iterations": 4, "n_candidates": 12, "top_k": 24, "n_attack_tokens": 5, "labels": [0] * len(prompts)}
    targets = options.pop("targets", [1] * len(prompts))
    return attack(model, TOKENIZER, prompts, targets, **(values | options))


def same(one: AttackResult, other: AttackResult, exact: bool = False) -> None:
    """The same trajectory; losses to 1e-5 (two packings differ by float noise), or to the bit."""
    assert one.tokens == other.tokens and one.prompt_text == other.prompt_text
    assert one.successes == other.successes and one.n_evaluated == other.n_evaluated
    assert one.forward_tokens == other.forward_tokens and one.backward_passes == other.backward_passes
    assert one.losses == (other.losses if exact else pytest.approx(other.losses, abs=1e-5))


def plain_trajectory(model: Any, before: str, after: str, key: int | None, options: dict[str, int]) -> list[Any]:
    """The paper's algorithm for one example, with plain forwards of texts and an explicit one-hot product."""
    table = model.get_input_embeddings().weight.detach()
    roles = [] if key is None else [key]
    rng = random.Random(derive_seed(0, "candidates", *roles))
    n, k = options["n_attack_tokens"], options["top_k"]
    current = TOKENIZER("@&" * n)["input_ids"][:n]
    history = []
    for _ in range(options["n_iterations"]):
        ids = TOKENIZER(before + TOKENIZER.decode(current) + after)["input_ids"]
        start = len(TOKENIZER(before)["input_ids"])
        assert ids[start : start + n] == current
        hot = torch.nn.functional.one_hot(torch.tensor([ids]), len(table)).float().requires_grad_(True)
        hidden = getattr(model, model.base_model_prefix)(inputs_embeds=hot @ table).last_hidden_state
        loss = cross_entropy(model.score(hidden[:, -1]), torch.tensor([1]))
        [gradient] = torch.autograd.grad(loss, hot)
        scores = gradient[0, start : start + n]
        banned = [token for token in range(len(table)) if token not in CODEC.allowed]
        scores[:, banned] = torch.inf
        pool = [(place, token) for place in range(n) for token in sorted(scores[place].argsort()[:k].tolist())]
        best: tuple[float, list[int], bool] | None = None
        n_kept = 0
        for place, token in [pool[i] for i in rng.sample(range(n * k), options["n_candidates"])]:
            row = [*current[:place], token, *current[place + 1 :]]
            text = TOKENIZER.decode(row)
            whole = TOKENIZER(before + text + after)["input_ids"]
            if row == current or TOKENIZER(text)["input_ids"] != row or whole != ids[:start] + row + ids[start + n :]:
                continue
            n_kept += 1
            logits = plain_logits(model, TOKENIZER, before + text + after)
            value = float(cross_entropy(logits[None], torch.tensor([1])))
            if best is None or value < best[0]:
                best = (value, row, int(logits.argmax()) != 0)
        assert best is not None
        current = best[1]
        history.append((best[0], tuple(best[1]), best[2], n_kept))
    return history


@pytest.mark.parametrize("key", [None, 3])
def test_trajectories_equal_the_algorithm_written_plainly(key: int | None) -> None:
    model = classifier()
    options = {"n_iterations": 3, "n_candidates": 12, "top_k": 24, "n_attack_tokens": 5}
    prompts = [PROMPTS[0], PROMPTS[3]]
    rng = "restart" if key is None else "per_example"
    results = run(model, prompts, keys=[3, 3], candidate_rng=rng, **options)
    for (before, after), result in zip(prompts, results, strict=True):
        expected = plain_trajectory(model, before, after, key, options)
        assert result.losses == pytest.approx([loss for loss, *_ in expected], abs=1e-5)
        assert result.tokens == expected[-1][1]
        assert result.successes == [success for _, _, success, _ in expected]
        assert result.n_evaluated == [n for *_, n in expected]


@pytest.mark.parametrize("kind", ["gpt_neox", "qwen2"])
@pytest.mark.parametrize("candidate_rng", ["restart", "per_example"])
@pytest.mark.parametrize("gradient", [True, False])
def test_company_and_caches_do_not_change_a_trajectory(kind: str, candidate_rng: str, gradient: bool) -> None:
    model = classifier(kind)
    options: dict[str, Any] = {"candidate_rng": candidate_rng, "gradient": gradient, "seed": 5}
    together = run(model, keys=KEYS, **options)
    uncached = run(model, keys=KEYS, use_cache=False, tokens_per_batch=90, examples_per_batch=2, **options)
    for i, (prompt, key) in enumerate(zip(PROMPTS, KEYS, strict=True)):
        [alone] = run(model, [prompt], keys=[key], **options)
        same(together[i], alone)
        same(together[i], uncached[i])
        assert together[i].flops_exact == alone.flops_exact


@pytest.mark.parametrize("kind", [*CONFIGS])
def test_every_architecture_is_attacked_as_its_text_says(kind: str) -> None:
    model = classifier(kind)
    results = run(model)
    texts = [result.prompt_text for result in results]
    assert [prediction != 0 for prediction in rescore(model, TOKENIZER, texts)] == [r.successes[-1] for r in results]
    for (before, after), result in zip(PROMPTS, results, strict=True):
        assert result.prompt_text == before + result.text + after
        assert TOKENIZER(result.text)["input_ids"] == list(result.tokens)
        assert not set(result.tokens) & set(TOKENIZER.all_special_ids)
        loss = cross_entropy(plain_logits(model, TOKENIZER, result.prompt_text)[None], torch.tensor([1]))
        assert result.losses[-1] == pytest.approx(float(loss), abs=1e-5)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    model = classifier()
    for one, other in zip(run(model, seed=1), run(model, seed=1), strict=True):
        same(one, other, exact=True)
    assert [r.tokens for r in run(model, seed=1)] != [r.tokens for r in run(model, seed=2)]


def test_restarted_streams_try_the_same_places_and_keyed_streams_do_not() -> None:
    model, prompts = classifier(), [PROMPTS[3]] * 2
    first, second = run(model, prompts, keys=[0, 1])
    same(first, second)
    first, second = run(model, prompts, keys=[0, 1], candidate_rng="per_example")
    assert first.tokens != second.tokens


def planted(trigger: int) -> Any:
    """A victim that averages its tokens: class 1 as soon as the trigger is among them, else a tie (class 0)."""
    model = classifier("llama", num_hidden_layers=1, num_key_value_heads=4)
    layer = model.model.layers[0]
    with torch.no_grad():
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.mlp.down_proj, model.score):
            projection.weight.zero_()
        for projection in (layer.self_attn.v_proj, layer.self_attn.o_proj):
            projection.weight.copy_(torch.eye(32))
        table = model.get_input_embeddings().weight
        table[:, 0] = 0.0
        table[trigger] = 0.0
        table[trigger, 0] = table[5].norm()
        model.score.weight[1, 0] = 3.0
    return model


def test_a_planted_trigger_is_found() -> None:
    """One token flips this victim. The gradient ranks it first at every place; blind search of equal size misses it."""
    [[trigger]] = CODEC.encode_alone(["7"])
    model = planted(trigger)
    found = run(model, n_iterations=2, n_candidates=8, top_k=2)
    assert all(trigger in result.tokens and result.first_success == 1 for result in found)
    blind = run(model, n_iterations=2, n_candidates=8, gradient=False)
    assert sum(trigger in result.tokens for result in blind) < N


def test_the_lowest_loss_is_kept_even_if_it_is_worse() -> None:
    model = classifier()
    rising = [result for seed in range(6) for result in run(model, n_candidates=2, n_iterations=8, seed=seed)]
    assert any(b > a for result in rising for a, b in zip(result.losses, result.losses[1:], strict=False))
    for result in rising:
        assert result.best_loss == min(result.losses)
        assert result.tokens != result.best_tokens or result.losses[-1] == result.best_loss


@pytest.mark.parametrize("make", [classifier, language_model])
def test_the_best_text_is_held_where_it_is_asked_for(make: Any) -> None:
    """The search is the same; what counts after an iteration is the lowest loss so far, and the text that has it."""
    model = make("qwen2")
    options: dict[str, Any] = {"n_candidates": 2, "n_iterations": 8, "candidate_rng": "per_example", "allowed": "any"}
    if make is language_model:
        options |= {"targets": [" good"] * N, "labels": None}
    last, best = (run(model, held=held, **options) for held in ("last", "best"))
    published = run(model, **options)
    assert any(one.losses != other.losses for one, other in zip(last, best, strict=True))
    for one, other, default in zip(last, best, published, strict=True):
        lowest = [min(one.losses[: i + 1]) for i in range(8)]
        assert other.losses == pytest.approx(lowest, abs=1e-6) and one.n_evaluated == other.n_evaluated
        assert other.successes == [one.successes[one.losses.index(loss)] for loss in lowest]
        assert (other.text, other.tokens) == (one.best_text, one.best_tokens) == (other.best_text, other.best_tokens)
        assert other.text in other.prompt_text
        # Chat models as published by their best, classifiers by their last.
        assert default.losses == (other if make is language_model else one).losses


def test_language_models_are_attacked_with_printable_ascii_unless_told_otherwise() -> None:
    model = language_model("qwen2")
    options: dict[str, Any] = {
        "targets": [" good"] * N,
        "labels": None,
        "n_iterations": 6,
        "top_k": 400,
        "held": "last",
    }
    assert all(text.isascii() and text.isprintable() for text in (r.text for r in run(model, **options)))
    open_ended = run(model, **options, allowed="any", n_candidates=200)
    assert not all(result.text.isprintable() and result.text.isascii() for result in open_ended)
    assert all(result.notes == {"n_start_said": 1.0} for result in open_ended)


def test_an_iteration_without_survivors_is_recorded_and_keeps_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    real, calls = gcg.surviving, []

    def none_in_first_and_third(codec: Any, layouts: Any, currents: Any, drawn: Any) -> Any:
        calls.append(None)
        return real(codec, layouts, currents, [p[:0] if len(calls) in (1, 3) else p for p in drawn])

    monkeypatch.setattr(gcg, "surviving", none_in_first_and_third)
    for gradient in (True, False):
        calls.clear()
        for (before, after), result in zip(PROMPTS, run(model, gradient=gradient), strict=True):
            assert len(result.losses) == len(result.successes) == len(result.forward_tokens) == 4
            assert result.n_evaluated[0] == result.n_evaluated[2] == 0 < result.n_evaluated[1]
            assert result.losses[2] == pytest.approx(result.losses[1], abs=1e-6)
            logits = plain_logits(model, TOKENIZER, before + "@&@&@" + after)
            assert result.losses[0] == pytest.approx(float(cross_entropy(logits[None], torch.tensor([1]))), abs=1e-5)
            assert result.successes[0] == (int(logits.argmax()) != 0)


def test_an_early_stop_ends_the_lists_at_the_first_success() -> None:
    model, seen = classifier(), []
    clean = rescore(model, TOKENIZER, [before + after for before, after in PROMPTS])
    options: dict[str, Any] = {"n_iterations": 6, "n_candidates": 4, "labels": clean, "targets": [1 - c for c in clean]}
    full = run(model, **options)
    stopped = run(model, **options, early_stop=True, callback=lambda i, alive, seconds: seen.append((i, alive)))
    assert len({result.first_success for result in full}) > 1
    for one, other in zip(full, stopped, strict=True):
        assert one.first_success == other.first_success
        n = one.first_success or 6
        assert other.losses == pytest.approx(one.losses[:n], abs=1e-5)
        assert other.forward_tokens == one.forward_tokens[:n]
    lengths = [len(result.losses) for result in stopped]
    assert seen == [(i, sum(length >= i for length in lengths)) for i in range(1, max(lengths) + 1)]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
def test_cost_equals_a_count_by_hand(use_cache: bool, gradient: bool) -> None:
    model = classifier("llama")
    shape = model_shape(model.config)
    for prompt, result in zip(PROMPTS, run(model, use_cache=use_cache, gradient=gradient), strict=True):
        n_before, total = len(TOKENIZER(prompt[0])["input_ids"]), len(TOKENIZER(result.prompt_text)["input_ids"])
        if prompt[0].endswith("\n\n"):
            n_before += 1  # cut in two when text follows
        stored = n_before if use_cache and n_before >= 8 else 0
        exact = exact_forward_flops(shape, stored) if stored else 0.0
        forward = backward = passes = 0
        for i, n in enumerate(result.n_evaluated):
            forward, passes = forward + (n + gradient) * total, passes + n + gradient
            backward += gradient * total
            each = exact_forward_flops(shape, total - stored, stored, 2)
            exact += (n + gradient) * each
            if gradient:
                exact += exact_input_gradient_flops(shape, total - stored, stored, 2) + exact_token_gradient_flops(
                    shape, 5
                )
            assert result.forward_tokens[i] == forward and result.forward_passes[i] == passes
            assert result.backward_tokens[i] == backward
            assert result.backward_passes[i] == (i + 1) * gradient
            assert result.flops_exact[i] == pytest.approx(exact, rel=1e-12)


def test_success_without_labels_is_reaching_the_target() -> None:
    model = classifier(num_labels=3)
    for target in range(3):
        results = run(model, targets=[target] * N, labels=None)
        found = rescore(model, TOKENIZER, [result.prompt_text for result in results])
        assert [prediction == target for prediction in found] == [result.successes[-1] for result in results]


def test_language_models_are_driven_to_a_text() -> None:
    model = language_model("qwen2")
    results = run(model, targets=[" good"] * N, labels=None, n_iterations=6, n_candidates=32)
    uncached = run(model, targets=[" good"] * N, labels=None, n_iterations=6, n_candidates=32, use_cache=False)
    for one, other in zip(results, uncached, strict=True):
        same(one, other)
        assert one.losses[-1] < one.losses[0]


def test_half_precision_runs_under_autocast_close_to_full() -> None:
    model = classifier()
    full, half = run(model, n_iterations=1), run(model, n_iterations=1, dtype=torch.bfloat16)
    for one, other in zip(full, half, strict=True):
        assert other.losses[0] == pytest.approx(one.losses[0], abs=0.1)
    assert next(model.parameters()).dtype == torch.float32


def test_a_training_model_comes_back_as_it_was() -> None:
    model = classifier().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(model, n_iterations=1)
    assert model.training and all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_attack_does_not_touch_global_randomness() -> None:
    model = classifier()
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(2), random.random()
    torch.manual_seed(3)
    random.seed(3)
    run(model, n_iterations=1)
    assert torch.equal(torch.rand(2), expected[0]) and random.random() == expected[1]


def test_bad_arguments_are_refused_by_name() -> None:
    model = classifier()
    long = ("the dog " * 300, "")
    for options, message in (
        ({"prompts": [PROMPTS[0], long], "keys": [7, 8]}, "example 8: .* tokens with its attack, the victim reads 256"),
        ({"targets": [1]}, "targets: found 1 for 5"),
        ({"labels": [1]}, "labels: found 1 for 5"),
        ({"keys": [1]}, "keys: found 1 for 5"),
        ({"targets": [1, 1, 1, 1, "a"]}, "one kind"),
        ({"method": "beam"}, "'beam': not an attack; one of gcg"),
        ({"n_iterations": 0}, "n_iterations: found 0"),
        ({"top_k": 0}, "top_k"),
        ({"candidate_rng": "global"}, "candidate_rng: found 'global'"),
    ):
        with pytest.raises(AttackError, match=message):
            run(model, **options)  # type: ignore[arg-type]


def test_no_prompts_give_no_results() -> None:
    assert run(classifier(), []) == []
