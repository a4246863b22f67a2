"""Losses, successes and gradients of victims against plain forwards, brute force and finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attack_fixtures import CONFIGS, PROMPTS, byte_tokenizer, classifier, language_model, plain_logits
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, one_hot

from hardscale.attacks.classifier_victim import ClassifierVictim, classify
from hardscale.attacks.codec import Codec
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.attacks.packing import MicroBatch, RowBlock, micro_batches
from hardscale.attacks.victim import Victim
from hardscale.errors import AttackError
from hardscale.models.parameters import frozen

TOKENIZER = byte_tokenizer()
CODEC = Codec(TOKENIZER, len(TOKENIZER))
TEXTS = [before + "@&@&" + after for before, after in PROMPTS]
ENCODED = CODEC.encode_prompts(TEXTS)
DECODERS = [kind for kind in CONFIGS if kind != "bert"]
TARGETS = [" the cat", " good", " house and the dog", "!", " said the man"]


def blocks_of(victim: Victim, stored: int = 0) -> list[RowBlock]:
    if stored:
        victim.remember([ids[:stored] for ids in ENCODED])
    return [victim.block(i, torch.tensor([ids])) for i, ids in enumerate(ENCODED)]


def victim_of(model: Any, **options: Any) -> ClassifierVictim:
    n = len(ENCODED)
    return ClassifierVictim(model, [i % 2 for i in range(n)], [0] * n, [str(i) for i in range(n)], **options)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("stored", [0, 9])
@pytest.mark.parametrize("budget", [40, 4096])
def test_losses_equal_plain_forwards(kind: str, stored: int, budget: int) -> None:
    model = classifier(kind)
    victim = victim_of(model, tokens_per_batch=budget)
    scores = victim.score(blocks_of(victim, stored))
    assert victim.can_cache == (kind != "bert")
    for i, (text, score) in enumerate(zip(TEXTS, scores, strict=True)):
        logits = plain_logits(model, TOKENIZER, text)
        assert float(score.losses) == pytest.approx(float(cross_entropy(logits[None], torch.tensor([i % 2]))), abs=1e-5)
        assert bool(score.successes) == (int(logits.argmax()) != 0)


@pytest.mark.parametrize("kind", ["gpt_neox", "qwen2", "bert"])
def test_clean_logits_equal_plain_forwards(kind: str) -> None:
    model = classifier(kind, num_labels=3)
    found = classify(model, TOKENIZER, TEXTS, tokens_per_batch=64)
    expected = torch.stack([plain_logits(model, TOKENIZER, text) for text in TEXTS])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_pooling_follows_the_library_where_a_prompt_ends_with_padding_tokens() -> None:
    model = classifier()
    text = "the dog said<|endoftext|><|endoftext|>"
    found = classify(model, TOKENIZER, [text, TEXTS[0]])
    torch.testing.assert_close(found[0], plain_logits(model, TOKENIZER, text), atol=1e-5, rtol=1e-5)


def test_victims_without_a_padding_token_are_packed_too() -> None:
    model = classifier()
    expected = classify(model, TOKENIZER, TEXTS)
    model.config.pad_token_id = None
    torch.testing.assert_close(classify(model, TOKENIZER, TEXTS), expected, atol=1e-5, rtol=1e-5)


def test_a_prefix_is_never_changed_by_reading_it() -> None:
    victim = victim_of(classifier())
    blocks = blocks_of(victim, 9)
    first = victim.score(blocks)
    before = [part.clone() for part in victim.cache._stored if part is not None]
    for _ in range(3):
        again = victim.score(blocks)
    assert len(before) == len(TEXTS)
    for old, new in zip(before, victim.cache._stored, strict=True):
        assert new is not None and torch.equal(old, new)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.losses, other.losses)


def test_prefixes_of_different_lengths_share_a_forward() -> None:
    model = classifier("llama")
    victim = victim_of(model)
    victim.remember([ids[: 8 + 2 * i] if i != 2 else [] for i, ids in enumerate(ENCODED)])
    blocks = [RowBlock(i, torch.tensor([ids]), min(len(victim.cache.prefixes[i]), 10)) for i, ids in enumerate(ENCODED)]
    assert len({block.reused for block in blocks}) > 2
    [whole] = list(micro_batches(blocks, 10_000))
    assert len(whole) == len(blocks)
    plain = victim_of(model, use_cache=False)
    for one, other in zip(victim.score(blocks), plain.score(blocks_of(plain)), strict=True):
        torch.testing.assert_close(one.losses, other.losses, atol=1e-5, rtol=1e-5)


def test_sliding_windows_are_not_cached() -> None:
    assert not victim_of(classifier("mistral", sliding_window=8)).can_cache
    assert not victim_of(classifier(), use_cache=False).can_cache


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "bert"])
@pytest.mark.parametrize("stored", [0, 9])
def test_gradient_equals_that_of_an_explicit_one_hot_product(kind: str, stored: int) -> None:
    model = classifier(kind)
    victim = victim_of(model)
    with frozen(model):
        blocks = blocks_of(victim, stored)
        _, gradients = victim.gradient(blocks)
    table = model.get_input_embeddings().weight.detach()
    for i, (ids, block) in enumerate(zip(ENCODED, blocks, strict=True)):
        hot = one_hot(torch.tensor([ids]), len(table)).float().requires_grad_(True)
        if kind == "bert":
            logits = model(inputs_embeds=hot @ table).logits
        else:
            hidden = getattr(model, model.base_model_prefix)(inputs_embeds=hot @ table).last_hidden_state
            logits = model.score(hidden[:, -1])
        [expected] = torch.autograd.grad(cross_entropy(logits, torch.tensor([i % 2])), hot)
        found = gradients[i] @ table.T
        torch.testing.assert_close(found, expected[0, block.reused :], atol=1e-5, rtol=1e-3)


def test_gradient_equals_finite_differences() -> None:
    model = classifier().double()
    victim = victim_of(model)
    [block] = blocks_of(victim)[:1]
    _, [gradient] = victim.gradient([block])
    table = model.get_input_embeddings().weight.detach()
    torch.manual_seed(0)
    embeds = table[block.tokens]
    for _ in range(4):
        direction = torch.randn_like(embeds)
        losses = []
        for sign in (1, -1):
            inputs = victim.packed([block], MicroBatch(*[next(iter(micro_batches([block], 4096)))] * 2))
            with torch.no_grad():
                losses.append(float(cross_entropy_of(victim, inputs, embeds + sign * 1e-4 * direction)))
        slope = (losses[0] - losses[1]) / 2e-4
        assert slope == pytest.approx(float((gradient * direction[0]).sum()), rel=2e-3, abs=1e-5)


def cross_entropy_of(victim: ClassifierVictim, inputs: Any, embeds: torch.Tensor) -> torch.Tensor:
    hidden = victim.hidden(inputs, embeds)
    return cross_entropy(victim.model.score(hidden[:, -1]), victim.targets[:1])


def test_freezing_is_undone_whatever_happens() -> None:
    model = classifier().train()
    model.score.eval()
    next(model.parameters()).requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyError), frozen(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes


def test_gradients_leave_no_trace_on_parameters() -> None:
    model = classifier()
    victim = victim_of(model)
    with frozen(model):
        victim.gradient(blocks_of(victim))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_logits_that_are_not_finite_name_the_example(value: float) -> None:
    model = classifier()
    model.score.forward = lambda states: torch.full((len(states), 2), value)
    victim = ClassifierVictim(model, [1], [0], ["31"])
    with pytest.raises(AttackError, match="example 31"):
        victim.score([RowBlock(0, torch.tensor([ENCODED[0]]))])
    with pytest.raises(AttackError, match="example 31"):
        classify(model, TOKENIZER, TEXTS[:1], ["31"])


def test_classes_are_checked() -> None:
    with pytest.raises(AttackError, match="example 1: target 2"):
        ClassifierVictim(classifier(), [0, 2], None, ["0", "1"])
    with pytest.raises(AttackError, match="example 0: label -1"):
        ClassifierVictim(classifier(), [0], [-1], ["0"])


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30), st.integers(0, 29)), max_size=12), st.integers(1, 300)
)
@settings(max_examples=100, deadline=None)
def test_micro_batches_hold_every_row_once_within_the_budget(sizes: list[tuple[int, int, int]], budget: int) -> None:
    blocks = [
        RowBlock(i, torch.zeros(n, length), min(stored, length - 1)) for i, (n, length, stored) in enumerate(sizes)
    ]
    batches = list(micro_batches(blocks, budget))
    rows = [(piece.block, row) for batch in batches for piece in batch for row in range(piece.start, piece.stop)]
    assert sorted(rows) == [(i, row) for i, (n, _, _) in enumerate(sizes) for row in range(n)]
    for batch in batches:
        n_rows = sum(piece.n_rows for piece in batch)
        assert n_rows * max(blocks[piece.block].n_new for piece in batch) <= budget or n_rows == 1


# --- language models -------------------------------------------------------------------------------------------------


def plain_target_loss(model: Any, ids: list[int], target: list[int]) -> tuple[float, bool]:
    with torch.no_grad():
        logits = model(torch.tensor([ids + target])).logits[0, len(ids) - 1 : -1]
    greedy = model.generate(torch.tensor([ids]), max_new_tokens=len(target), do_sample=False, eos_token_id=None)
    return float(cross_entropy(logits, torch.tensor(target))), greedy[0, len(ids) :].tolist() == target


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("stored", [0, 9])
def test_target_losses_and_greedy_success_equal_the_library(kind: str, stored: int) -> None:
    model = language_model(kind)
    targets = list(TARGETS)
    reached = model.generate(torch.tensor([ENCODED[0]]), max_new_tokens=4, do_sample=False, eos_token_id=None)
    victim = LanguageVictim(model, TOKENIZER, targets, [str(i) for i in range(5)], tokens_per_batch=150)
    victim.endings[0] = reached[0, len(ENCODED[0]) :].tolist()  # a target that is reached
    scores = victim.score(blocks_of(victim, stored))
    for i, score in enumerate(scores):
        loss, success = plain_target_loss(model, ENCODED[i], victim.endings[i])
        assert float(score.losses) == pytest.approx(loss, abs=1e-4)
        assert bool(score.successes) == success
    assert bool(scores[0].successes) and not all(bool(score.successes) for score in scores)


def test_head_rows_are_tiled_and_changed_logits_are_left_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model()
    names = [str(i) for i in range(5)]
    expected = LanguageVictim(model, TOKENIZER, TARGETS, names)
    losses = [score.losses for score in expected.score(blocks_of(expected))]
    monkeypatch.setattr("hardscale.attacks.language_victim._HEAD_ROWS", 3)
    tiled = LanguageVictim(model, TOKENIZER, TARGETS, names)
    model.config.logit_scale = 1.0
    whole = LanguageVictim(model, TOKENIZER, TARGETS, names)
    assert not whole.can_cache
    for victim in (tiled, whole):
        for one, other in zip(victim.score(blocks_of(victim)), losses, strict=True):
            torch.testing.assert_close(one.losses, other, atol=1e-5, rtol=1e-5)


def test_language_gradient_equals_brute_force() -> None:
    model = language_model()
    victim = LanguageVictim(model, TOKENIZER, TARGETS, [str(i) for i in range(5)])
    with frozen(model):
        _, gradients = victim.gradient(blocks_of(victim, 9))
    for ids, target, gradient in zip(ENCODED, victim.endings, gradients, strict=True):
        embeds = model.get_input_embeddings()(torch.tensor([ids + target])).detach().requires_grad_(True)
        logits = model(inputs_embeds=embeds).logits[0, len(ids) - 1 : -1]
        [expected] = torch.autograd.grad(cross_entropy(logits, torch.tensor(target)), embeds)
        torch.testing.assert_close(gradient, expected[0, 9:], atol=1e-5, rtol=1e-3)


def test_a_target_needs_tokens() -> None:
    with pytest.raises(AttackError, match="example 1: the target text"):
        LanguageVictim(language_model(), TOKENIZER, ["a", ""], ["0", "1"])
