"""RandomToken: independent draws, the first success held, and no credit for stopping."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from attack_fixtures import CONFIGS, PROMPTS, byte_tokenizer, classifier, plain_logits
from torch.nn.functional import cross_entropy

from hardscale.attacks import random_token
from hardscale.attacks.base import attack
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult
from hardscale.errors import AttackError
from hardscale.models.counts import model_shape
from hardscale.models.flops import exact_forward_flops

TOKENIZER = byte_tokenizer()
CODEC = Codec(TOKENIZER, len(TOKENIZER))
N_ITERATIONS = 9


def run(model: Any, prompts: Any = PROMPTS, **options: Any) -> list[AttackResult]:
    values = {"n_iterations": N_ITERATIONS, "n_attack_tokens": 5, "labels": [0] * len(prompts)}
    return attack(model, TOKENIZER, prompts, [1] * len(prompts), **(values | options), method="random_token")


def drawn_texts(
    monkeypatch: pytest.MonkeyPatch, model: Any, **options: Any
) -> tuple[list[AttackResult], list[list[Any]]]:
    """Results, and every text drawn for each example."""
    real, draws = random_token._draw, [[] for _ in PROMPTS]

    def noting(*arguments: Any) -> Any:
        found = real(*arguments)
        for example, part in found.items():
            draws[example] += part
        return found

    monkeypatch.setattr(random_token, "_draw", noting)
    return run(model, **options), draws


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_record_is_that_of_plain_forwards_until_the_first_success(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier(kind)
    results, draws = drawn_texts(monkeypatch, model)
    for (before, after), result, texts in zip(PROMPTS, results, draws, strict=True):
        assert len(texts) == N_ITERATIONS
        logits = [plain_logits(model, TOKENIZER, before + draw.text + after) for draw in texts]
        losses = [float(cross_entropy(row[None], torch.tensor([1]))) for row in logits]
        hits = [i for i, row in enumerate(logits) if int(row.argmax()) != 0]
        last = hits[0] if hits else N_ITERATIONS - 1
        frozen = N_ITERATIONS - 1 - last
        assert result.losses == pytest.approx(losses[: last + 1] + [losses[last]] * frozen, abs=1e-5)
        assert result.successes == [False] * last + [bool(hits)] * (1 + frozen)
        assert result.first_success == (last + 1 if hits else None)
        assert result.text == texts[last].text and list(result.tokens) == texts[last].tokens
        assert result.prompt_text == before + result.text + after
        assert result.n_evaluated == [1] * N_ITERATIONS


def test_success_earns_no_credit_and_costs_no_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    shape = model_shape(model.config)
    scored = Counter()
    real = random_token._score

    def counting(victim: Any, states: Any, draws: Any) -> Any:
        scored.update(state.example for state in states)
        return real(victim, states, draws)

    monkeypatch.setattr(random_token, "_score", counting)
    monkeypatch.setattr(random_token, "_FIRST_SPAN", 1)
    monkeypatch.setattr(random_token, "_LONGEST_SPAN", 1)
    results, draws = drawn_texts(monkeypatch, model)
    assert {result.first_success for result in results} - {None, N_ITERATIONS}
    for i, (result, texts) in enumerate(zip(results, draws, strict=True)):
        assert scored[i] == (result.first_success or N_ITERATIONS)
        lengths = [len(draw.prompt) for draw in texts]
        assert result.forward_tokens == [sum(lengths[: k + 1]) for k in range(N_ITERATIONS)]
        assert result.forward_passes == list(range(1, N_ITERATIONS + 1))
        assert result.backward_tokens == result.backward_passes == [0] * N_ITERATIONS
        stored = len(TOKENIZER(PROMPTS[i][0])["input_ids"])
        stored = stored if stored >= 8 else 0
        exact = exact_forward_flops(shape, stored) if stored else 0.0
        exact += sum(exact_forward_flops(shape, len(d.prompt) - d.reused, d.reused, 2) for d in texts)
        assert result.flops_exact[-1] == pytest.approx(exact, rel=1e-12)


def test_strings_that_change_the_tokens_before_them_are_scored_as_read() -> None:
    """The stored prefix is only reused as far as the whole text's tokens agree with it."""
    model = classifier()
    prompts = [("the film was a joy said the go", " end"), ("is the review\n\n", " good")]
    cached, plain = run(model, prompts, n_iterations=40), run(model, prompts, n_iterations=40, use_cache=False)
    for one, other in zip(cached, plain, strict=True):
        assert one.losses == pytest.approx(other.losses, abs=1e-5)
        assert one.text == other.text


@pytest.mark.parametrize("use_cache", [True, False])
def test_company_spans_and_early_stops_change_nothing(use_cache: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, keys = classifier("qwen2"), [3, 1, 4, 15, 9]
    together = run(model, keys=keys, use_cache=use_cache, early_stop=True)
    monkeypatch.setattr(random_token, "_FIRST_SPAN", 3)
    for i, (prompt, key) in enumerate(zip(PROMPTS, keys, strict=True)):
        [alone] = run(model, [prompt], keys=[key])
        assert (alone.text, alone.successes, alone.forward_tokens) == (
            together[i].text,
            together[i].successes,
            together[i].forward_tokens,
        )
        assert alone.losses == pytest.approx(together[i].losses, abs=1e-5)


def test_draws_are_uniform_over_allowed_tokens_and_independent_over_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    _, draws = drawn_texts(monkeypatch, classifier(), n_iterations=160)
    texts = [draw.text for part in draws for draw in part]
    assert len(set(texts)) == len(texts)
    counts = Counter(token for part in draws for draw in part for token in draw.tokens)
    expected = len(texts) * 5 / len(CODEC.allowed)
    assert set(counts) <= set(CODEC.allowed)
    chi2 = sum((counts[token] - expected) ** 2 / expected for token in CODEC.allowed)
    freedom = len(CODEC.allowed) - 1
    assert abs(chi2 - freedom) < 5 * (2 * freedom) ** 0.5


def test_the_same_seed_gives_the_same_bits() -> None:
    model = classifier()
    first, second, other = run(model), run(model), run(model, seed=1)
    assert first == second
    assert [result.tokens for result in first] != [result.tokens for result in other]


def test_callbacks_count_every_iteration() -> None:
    seen: list[tuple[int, int]] = []
    results = run(classifier(), callback=lambda iteration, alive, seconds: seen.append((iteration, alive)))
    ends = [result.first_success or N_ITERATIONS for result in results]
    assert seen == [(i, sum(end >= i for end in ends)) for i in range(1, N_ITERATIONS + 1)]


def test_prompts_that_do_not_fit_are_named() -> None:
    with pytest.raises(AttackError, match=r"example 1: .* the victim reads 256"):
        run(classifier(), [PROMPTS[0], ("the dog " * 200, "")])
