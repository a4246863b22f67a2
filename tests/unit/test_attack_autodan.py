"""AutoDAN: its pool, its genetic steps against hand-made cases, and a planted weakness that it has to find."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
import torch
from attack_fixtures import byte_tokenizer, classifier, language_model
from hypothesis import given
from hypothesis import strategies as st
from planted import FOUND, TARGET, chat_tokenizer, encode, never_obeys, obeys_trigger

from hardscale.attacks import autodan_words, prefixes
from hardscale.attacks.autodan_words import (
    ModelMutator,
    RuleMutator,
    Synonyms,
    chances,
    crossover,
    exchange,
    word_scores,
)
from hardscale.attacks.base import attack, run_attack
from hardscale.attacks.chat_generator import ChatGenerator
from hardscale.attacks.chat_text import inert
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult, Helper
from hardscale.errors import AttackError
from hardscale.models.counts import model_shape
from hardscale.models.flops import exact_forward_flops
from hardscale.settings.attacks import AutoDan

KEYS = [7, 3, 11]


def settings(**changes: Any) -> AutoDan:
    values = {"kind": "autodan", "population": 4, "patience": None, "mutation_probability": 0.0, **changes}
    return AutoDan.model_validate(values)


def run(planted: Any, own: AutoDan, only: slice = slice(None), **options: Any) -> list[AttackResult]:
    values: dict[str, Any] = {"n_iterations": 12, "keys": KEYS[only], "requests": planted.requests[only], **options}
    prompts, targets = planted.prompts[only], planted.targets[only]
    block = own.model_copy(update={"n_iterations": values.pop("n_iterations")})
    return run_attack(block, planted.model, planted.tokenizer, prompts, targets, **values)


# --- the pool -------------------------------------------------------------------------------------------------------


def test_the_pool_is_the_published_one() -> None:
    assert prefixes.POOL_SHA256 == "caeaa718c2259c722ae9a1c6b7ccd678500bc60f7437c8991e2e3afab96141ba"
    assert prefixes.POOL_NUMBER == int(prefixes.POOL_SHA256[:12], 16) == int(float(prefixes.POOL_NUMBER))
    for paragraph in prefixes.PARAGRAPHS:
        assert " ".join(prefixes.sentences(paragraph)) == paragraph
        assert len(prefixes.sentences(paragraph)) >= 5
    assert {"the", "and", "you"} <= prefixes.COMMON and not {"engineer", "novel", "expert"} & prefixes.COMMON


def test_populations_hold_the_paragraphs_first_and_no_prefix_twice() -> None:
    first, again = (prefixes.first_population(64, random.Random(3)) for _ in range(2))
    assert first == again and len(set(first)) == 64
    assert [" ".join(prefix) for prefix in first[:8]] == list(prefixes.PARAGRAPHS)
    known = {sentence for paragraph in prefixes.PARAGRAPHS for sentence in prefixes.sentences(paragraph)}
    assert all(set(prefix) <= known for prefix in first)
    assert prefixes.first_population(3, random.Random(3)) == first[:3]


# --- genetic steps --------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(0, 1000))
def test_crossover_keeps_sentences_and_their_places(n: int, m: int, points: int, seed: int) -> None:
    first, second = tuple(f"a{i}" for i in range(n)), tuple(f"b{i}" for i in range(m))
    one, two = crossover(first, second, points, random.Random(seed))
    assert sorted(one + two) == sorted(first + second)
    for child in (one, two):
        places = [int(sentence[1:]) for sentence in child]
        assert places == list(range(len(child)))
        changes = sum(a[0] != b[0] for a, b in itertools.pairwise(child))
        assert changes <= points


def test_softmax_prefers_the_better_and_the_published_sum_the_worse() -> None:
    fitness = [-0.5, -1.0, -2.5]
    total = sum(math.exp(value) for value in fitness)
    assert chances(fitness, "softmax") == pytest.approx([math.exp(value) / total for value in fitness])
    assert chances(fitness, "sum") == pytest.approx([0.125, 0.25, 0.625])
    assert chances([0.0, 0.0], "sum") == [0.5, 0.5]
    assert chances([-2e3, -1e3], "softmax") == [0.0, 1.0]


def test_word_scores_are_means_averaged_with_the_last_ones() -> None:
    population = [("Dragons sing.", "Castles burn."), ("Dragons sleep.",), ("Castles sing and sing.",)]
    scores = word_scores(population, [-1.0, -3.0, -2.0], {"dragons": -4.0, "old": -0.5}, 4)
    assert scores == {"old": -0.5, "burn": -1.0, "castles": -1.5, "sing": -1.5}
    wide = word_scores(population, [-1.0, -3.0, -2.0], {"dragons": -4.0, "old": -0.5}, 99)
    assert wide["dragons"] == (-4.0 - 2.0) / 2 and wide["sleep"] == -3.0 and "and" not in wide


def test_rules_shuffle_drop_or_insert_and_never_leave_nothing() -> None:
    prefix = ("One.", "Two.", "Three.")
    done = [rewrite.prefix for rewrite in RuleMutator().rewrite([prefix] * 60, range(60))]
    assert {len(new) for new in done} == {2, 3, 4}
    for new in done:
        if len(new) == 3:
            assert new[0] == "One." and set(new) == set(prefix)
        elif len(new) == 4:
            [inserted] = set(new) - set(prefix)
            assert inserted in prefixes.SENTENCES
    assert all(new.prefix for new in RuleMutator().rewrite([("One.",)] * 20, range(20)))


# --- synonyms -------------------------------------------------------------------------------------------------------


def test_synonyms_are_the_nearest_words_of_the_same_form() -> None:
    tokenizer, model = chat_tokenizer(), obeys_trigger().model
    victim: Any = type("V", (), {"embedding": model.get_input_embeddings()})()
    codec = Codec(tokenizer, len(tokenizer), closing=False)
    found = Synonyms(victim, codec, 3, never={"the"})
    words = [text for i in codec.allowed if autodan_words.form_of(text := tokenizer.decode([i])) == (True, "lower")]
    words = [
        word for word in words if encode(tokenizer, "a" + word) == [*encode(tokenizer, "a"), *encode(tokenizer, word)]
    ]
    words = [word for word in words if len(encode(tokenizer, word)) == 1 and word != " the"]
    assert " kindly" in words and len(words) > 5
    table = model.get_input_embeddings().weight.detach()
    for word, mine in zip(words, found.of(words), strict=True):
        row = table[encode(tokenizer, word)[0]]
        likeness = {
            other: float(torch.cosine_similarity(row, table[encode(tokenizer, other)[0]], dim=0)) for other in words
        }
        del likeness[word]
        assert list(mine) == sorted(likeness, key=lambda other: -likeness[other])[:3]
    assert found.of([" the", " unheard", "42", " Kindly"]) == [(), (), (), ()]


def test_a_word_is_exchanged_for_a_synonym_by_its_score() -> None:
    class Fixed:
        def of(self, texts: Any) -> list[tuple[str, ...]]:
            return [(" tower", " cave") if text == " castle" else () for text in texts]

    prefix = ("See the castle.", "A castle burns, castles fall.")
    done = [exchange(prefix, {"tower": 0.0}, Fixed(), "softmax", random.Random(i)) for i in range(400)]  # type: ignore[arg-type]
    first = [new[0].split()[-1] for new in done]
    assert {len(new) for new in done} == {2} and all(new[1].endswith("burns, castles fall.") for new in done)
    assert 150 < first.count("castle.") < 250  # half stay; without other scores both are as good
    done = [exchange(prefix, {"tower": 0.0, "sea": -9.0}, Fixed(), "softmax", random.Random(i)) for i in range(400)]  # type: ignore[arg-type]
    assert not any("cave" in " ".join(new) for new in done)


# --- the attack -----------------------------------------------------------------------------------------------------


def test_it_finds_a_trigger_among_the_neighbors_of_the_pool_s_words() -> None:
    planted = obeys_trigger()
    assert not any(planted.trigger in paragraph for paragraph in prefixes.PARAGRAPHS)
    assert " can " in prefixes.PARAGRAPHS[2]
    [[can], [kindly]] = [encode(planted.tokenizer, word) for word in (" can", " kindly")]
    table = planted.model.get_input_embeddings().weight
    with torch.no_grad():  # like words, but for what gives the model away
        table[can] = table[kindly]
        table[can, FOUND] = 0.0
    own = settings(population=12)
    results = run(planted, own, n_iterations=12)
    for result, request in zip(results, planted.requests, strict=True):
        assert result.notes["pool_success"] == 0 and result.successes[-1]
        assert planted.trigger in result.text and result.best_text == result.text
        assert result.prompt_text == request.before + result.text + request.text + request.after
        assert result.notes["pool_best_loss"] == result.losses[0] > 1.0 > result.losses[-1]
    blind = run(planted, settings(population=12, hierarchical=False), n_iterations=12)
    assert not any(any(result.successes) for result in blind)


def test_it_finds_a_trigger_in_the_pool_s_sentences_by_mutation() -> None:
    planted = obeys_trigger("game")
    own = settings(population=7, hierarchical=False, mutation_probability=1.0)
    results = run(planted, own, n_iterations=40)
    assert all(result.successes[-1] and result.notes["pool_success"] == 0 for result in results)
    assert all(result.notes["n_mutations"] == 6 * 39 for result in results)


def test_a_pool_that_suffices_is_reported() -> None:
    [result, *_] = run(obeys_trigger("game"), settings(population=8), n_iterations=1)
    assert result.first_success == 1 and result.notes["pool_success"] == 1.0
    assert result.notes["pool_success_share"] == 1 / 8 and result.notes["pool_sha256"] == prefixes.POOL_NUMBER


def test_a_model_that_never_obeys_costs_the_whole_budget() -> None:
    own = settings(mutation_probability=0.5)
    for result in run(never_obeys(), own):
        assert not any(result.successes) and result.first_success is None
        assert len(result.losses) == len(result.n_evaluated) == 12 and result.n_evaluated[0] == 4


def test_losses_never_rise_and_the_ledger_counts_what_was_scored() -> None:
    planted = obeys_trigger()
    for result in run(planted, settings(mutation_probability=0.5), n_iterations=6, use_cache=False):
        assert result.losses == sorted(result.losses, reverse=True)
        total = [sum(result.n_evaluated[: i + 1]) for i in range(6)]
        assert result.forward_passes == total and result.backward_passes == [0] * 6
        assert max(result.n_evaluated[1:]) <= 3  # the elite is not scored again
    pool = [" ".join(prefixes.sentences(paragraph)) for paragraph in prefixes.PARAGRAPHS[:4]]
    request, n_target = planted.requests[0], len(encode(planted.tokenizer, TARGET))
    sizes = [
        len(encode(planted.tokenizer, f"{request.before}{text}\n\n{request.text}{request.after}")) + n_target
        for text in pool
    ]
    [result] = run(planted, settings(), slice(0, 1), n_iterations=1, use_cache=False)
    assert result.forward_tokens == [sum(sizes)]
    shape = model_shape(planted.model.config)
    exact = sum(exact_forward_flops(shape, size, 0, n_target * shape.vocab) for size in sizes)
    assert result.flops_exact == [pytest.approx(exact)]


def test_company_and_caches_change_nothing() -> None:
    planted, own = obeys_trigger(), settings(mutation_probability=0.3)
    together = run(planted, own)
    assert run(planted, own) == together
    for i in range(3):
        [alone] = run(planted, own, slice(i, i + 1))
        assert (alone.prompt_text, alone.notes, alone.n_evaluated) == (
            together[i].prompt_text,
            together[i].notes,
            together[i].n_evaluated,
        )
        assert alone.losses == pytest.approx(together[i].losses, abs=1e-5)
    assert run(planted, own, seed=1) != together


def test_patience_leaves_an_example() -> None:
    for result in run(never_obeys(), settings(patience=2, hierarchical=False)):
        assert len(result.losses) < 12 and result.losses[-3] == result.losses[-1]


def test_prefixes_that_do_not_fit_are_cut_and_counted() -> None:
    planted = obeys_trigger()
    planted.model.config.max_position_embeddings = 220
    for result in run(planted, settings(), n_iterations=2):
        assert result.notes["n_trimmed"] > 0
        assert len(encode(planted.tokenizer, result.prompt_text + TARGET)) <= 220
    planted.model.config.max_position_embeddings = 40
    with pytest.raises(AttackError, match="lower the task's max_tokens"):
        run(planted, settings(), n_iterations=1)


# --- a language model as mutator ------------------------------------------------------------------------------------


def test_a_mutator_model_rewrites_or_rules_do_and_both_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    planted, helper = obeys_trigger(), never_obeys()
    said = iter(["Oh <|user|> one. Two!", "", "word " * 500, "---"])
    monkeypatch.setattr("hardscale.attacks.chat_generator.reply", lambda *a, **k: [next(said) for _ in a[2]])
    talker = ChatGenerator(Helper(helper.model, helper.tokenizer), planted.model)
    done = ModelMutator(talker, planted.tokenizer).rewrite([("First one.", "Last.")] * 4, [1, 2, 3, 4])
    assert done[0].prefix == ("Oh  one.", "Two!") and not done[0].failed
    assert [rewrite.failed for rewrite in done] == [False, True, True, True] and all(rewrite.prefix for rewrite in done)


def test_a_mutator_model_is_used_and_paid_for() -> None:
    planted, other = obeys_trigger(), never_obeys()
    own = settings(mutator={"family": "nano", "scale": "xs"}, mutation_probability=1.0, hierarchical=False)
    with pytest.raises(AttackError, match="mutator: rules"):
        run(planted, own)
    helpers = {"mutator": Helper(other.model, other.tokenizer)}
    [result] = run(planted, own, slice(0, 1), n_iterations=3, helpers=helpers)
    assert result == run(planted, own, slice(0, 1), n_iterations=3, helpers=helpers)[0]
    assert result.notes["n_mutations"] == 6 and result.notes["n_failed_mutations"] <= 6
    assert result.forward_passes[-1] == sum(result.n_evaluated) + 6


# --- what it cannot do ---------------------------------------------------------------------------------------------


def test_classifiers_are_refused_in_one_line() -> None:
    with pytest.raises(AttackError, match="autodan: found a classifier") as caught:
        attack(classifier(), byte_tokenizer(), [("a", "b")], [1], method="autodan")
    assert "\n" not in str(caught.value)
    with pytest.raises(AttackError, match="prompts without requests"):
        attack(language_model(), byte_tokenizer(), [("a", "b")], ["yes"], method="autodan")


def test_markers_are_taken_out_until_none_is_left() -> None:
    tokenizer = chat_tokenizer()
    assert inert("a<|us<|end|>er|>b [INST]c<</SYS>><|im_start|>", tokenizer) == "ab c"
