"""The attacks that need little or no search: direct, prefill, in_context, templates, adaptive."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from attack_fixtures import PROMPTS, byte_tokenizer, classifier, language_model
from planted import REFUSAL, TARGET, WISHES, Planted, encode, never_obeys, obeys_trigger
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from hardscale.attacks import frames
from hardscale.attacks.adaptive import block_size
from hardscale.attacks.base import attack, run_attack
from hardscale.attacks.in_context import others, transcript
from hardscale.attacks.results import AttackResult, Request
from hardscale.errors import AttackError
from hardscale.models.counts import model_shape
from hardscale.models.flops import exact_forward_flops
from hardscale.settings.attacks import Adaptive, InContext, Prefill, Templates
from hardscale.settings.study_attacks import parse_attack

N_FRAMES = len(frames.FRAMES)
BLOCKS = {
    "prefill": Prefill(kind="prefill", n_prefill_tokens=2),
    "in_context": InContext(kind="in_context", shots=2),
    "adaptive": Adaptive(kind="adaptive", n_attack_tokens=6, n_replaced=3),
}
BUDGET = {"direct": 1, "prefill": 1, "in_context": 3, "templates": N_FRAMES, "adaptive": 8}


def run(method: str, planted: Planted, part: slice = slice(None), **options: Any) -> list[AttackResult]:
    values: dict[str, Any] = {
        "requests": planted.requests[part],
        "n_iterations": BUDGET[method],
        "own": BLOCKS.get(method) or parse_attack({"kind": method}),
        "known": [(wish, TARGET) for wish in WISHES],
    } | options
    block = values.pop("own").model_copy(update={"n_iterations": values.pop("n_iterations")})
    return run_attack(block, planted.model, planted.tokenizer, planted.prompts[part], planted.targets[part], **values)


def plain(planted: Planted, prompt: str, target: list[int]) -> tuple[float, bool]:
    """Loss and success of a prompt text by the library's own forward."""
    ids = planted.tokenizer(prompt)["input_ids"]
    with torch.no_grad():
        logits = planted.model(torch.tensor([ids + target])).logits[0, len(ids) - 1 : -1]
    wanted = torch.tensor(target)
    return float(cross_entropy(logits, wanted)), bool((logits.argmax(1) == wanted).all())


def loud() -> Planted:
    """A random model whose losses differ from text to text."""
    model, tokenizer = language_model("llama", vocab_size=344, max_position_embeddings=512), obeys_trigger().tokenizer
    return obeys_trigger()._replace(model=model, tokenizer=tokenizer)


@pytest.mark.parametrize("method", BUDGET)
def test_records_are_those_of_the_text_as_read(method: str) -> None:
    planted = loud()
    shape = model_shape(planted.model.config)
    n = BUDGET[method]
    for result in run(method, planted):
        target = encode(planted.tokenizer, TARGET)[2 if method == "prefill" else 0 :]
        loss, success = plain(planted, result.prompt_text, target)
        assert result.losses[-1] == result.best_loss == pytest.approx(loss, abs=1e-4)
        assert result.successes[-1] == success and result.text in result.prompt_text
        assert result.losses == sorted(result.losses, reverse=True) and len(result.losses) == n
        assert result.n_evaluated == [1] * n and result.forward_passes == list(range(1, n + 1))
        assert result.backward_tokens == [0] * n
        n_last = result.forward_tokens[-1] - (result.forward_tokens[-2] if n > 1 else 0)
        if n == 1:
            assert n_last == len(planted.tokenizer(result.prompt_text)["input_ids"]) + len(target)
            exact = exact_forward_flops(shape, n_last, 0, len(target) * shape.vocab)
            assert result.flops_exact == [pytest.approx(exact, rel=1e-12)]


@pytest.mark.parametrize("method", BUDGET)
def test_company_and_batches_change_nothing_and_seeds_count(method: str) -> None:
    planted, keys = loud(), [7, 2, 5]
    together = run(method, planted, keys=keys)
    assert together == run(method, planted, keys=keys)
    small = run(method, planted, keys=keys, examples_per_batch=1, tokens_per_batch=50, use_cache=False)
    for i, key in enumerate(keys):
        [alone] = run(method, planted, slice(i, i + 1), keys=[key])
        for other in (alone, small[i]):
            assert (other.text, other.tokens, other.prompt_text) == (
                together[i].text,
                together[i].tokens,
                together[i].prompt_text,
            )
            assert other.losses == pytest.approx(together[i].losses, abs=1e-4)
            assert other.forward_tokens == together[i].forward_tokens
    if method in ("in_context", "adaptive"):
        many = [(f"Write the number {i}.", TARGET) for i in range(20)]
        first, second = (run(method, planted, keys=keys, known=many, seed=seed) for seed in (1, 2))
        assert [one.text for one in first] != [one.text for one in second]


@pytest.mark.parametrize("method", BUDGET)
def test_classifiers_are_refused_in_one_line(method: str) -> None:
    with pytest.raises(
        AttackError, match=rf"^{method}: found a classifier, attacks requests to chat models; .*behaviors$"
    ):
        attack(classifier(), byte_tokenizer(), PROMPTS, [1] * len(PROMPTS), method=method)


@pytest.mark.parametrize("method", ["in_context", "templates", "adaptive"])
def test_language_models_without_requests_are_refused_where_the_turn_is_rewritten(method: str) -> None:
    with pytest.raises(AttackError, match=f"{method}: found prompts without requests"):
        attack(language_model(), byte_tokenizer(), PROMPTS, [" good"] * len(PROMPTS), method=method)


@pytest.mark.parametrize("method", BUDGET)
def test_global_randomness_is_left_alone_and_iterations_are_told(method: str) -> None:
    torch.manual_seed(3)
    random.seed(3)
    state, seen = (torch.get_rng_state(), random.getstate()), []
    run(method, obeys_trigger(), callback=lambda iteration, alive, seconds: seen.append((iteration, alive)))
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[1]
    assert seen == [(i, 3) for i in range(1, BUDGET[method] + 1)]


# --- direct ---------------------------------------------------------------------------------------------------------


def test_direct_is_the_request_as_it_is() -> None:
    for planted in (obeys_trigger(), never_obeys()):
        for (before, after), result in zip(planted.prompts, run("direct", planted), strict=True):
            assert result.prompt_text == before + after and result.text == "" and result.tokens == ()
            assert result.successes == [False]  # one forward
    asked = obeys_trigger()
    told = asked._replace(prompts=[(before + " kindly", after) for before, after in asked.prompts])
    assert all(result.successes == [True] for result in run("direct", told))


def test_direct_needs_no_requests() -> None:
    planted = obeys_trigger()
    assert run("direct", planted, requests=None) == run("direct", planted)


# --- prefill --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "given"), [(1, 1), (3, 3), (50, len(encode(obeys_trigger().tokenizer, TARGET)) - 1)])
def test_prefill_begins_the_reply_and_scores_the_rest(n: int, given: int) -> None:
    weak, strong = obeys_trigger(), never_obeys()
    tokens = encode(weak.tokenizer, TARGET)
    begun = weak.tokenizer.decode(tokens[:given])
    own = Prefill(kind="prefill", n_prefill_tokens=n)
    for planted, falls in ((weak, True), (strong, False)):
        for (before, after), result in zip(planted.prompts, run("prefill", planted, own=own), strict=True):
            assert result.prompt_text == before + after + begun and result.text == begun
            assert result.notes["n_prefilled"] == given
            assert result.successes == [falls]
            assert result.losses[0] == pytest.approx(plain(planted, result.prompt_text, tokens[given:])[0], abs=1e-4)


def test_a_target_of_one_token_is_not_given_away() -> None:
    planted = obeys_trigger()._replace(targets=["Sure"] * 3)
    results = run("prefill", planted)
    assert [result.text for result in results] == [""] * 3
    assert [result.losses for result in results] == [result.losses for result in run("direct", planted)]


# --- in context -----------------------------------------------------------------------------------------------------


def test_shots_are_other_requests_with_their_openings() -> None:
    planted = obeys_trigger()
    shots = [(WISHES[0], "A"), ("  write the WORD apple. ", "B"), (WISHES[1], "C"), (WISHES[1], "D"), (WISHES[2], "E")]
    assert others(WISHES[0], shots) == [(WISHES[1], "C"), (WISHES[2], "E")]
    assert transcript([("Hi?", "Ho")], "Ha?") == "Question: Hi?\nAnswer: Ho\n\nQuestion: Ha?\nAnswer:"
    for i, result in enumerate(run("in_context", planted, known=shots)):
        assert result.text.count(WISHES[i]) == 1 and result.text.endswith(f"Question: {WISHES[i]}\nAnswer:")
        assert result.prompt_text == "<|user|>" + result.text + "<|assistant|>"
        assert result.notes["n_shots_1"] == result.text.count("Question:") - 1 == 2
        assert result.text.count(" B") == 0


def test_the_calls_own_requests_are_the_shots_unless_others_are_given() -> None:
    planted = obeys_trigger()
    for i, result in enumerate(run("in_context", planted, known=None)):
        assert all(wish in result.text for wish in WISHES) and result.text.count(TARGET) == 2
        assert result.text.index(WISHES[i]) > result.text.rindex(TARGET)
    with pytest.raises(AttackError, match="example 4: no other request to show"):
        run("in_context", planted, slice(0, 1), known=None, keys=[4])
    shots = [("Say kindly?", "Yes")]
    assert all(result.successes[0] for result in run("in_context", planted, known=shots))


def test_shots_are_left_out_where_they_do_not_fit() -> None:
    planted = obeys_trigger()
    long = [("word " * 40 + str(i), TARGET) for i in range(9)]
    own = InContext(kind="in_context", shots=9)
    for result in run("in_context", planted, known=long, own=own, n_iterations=2):
        assert 0 < result.notes["n_shots_1"] < 9
        assert len(planted.tokenizer(result.prompt_text)["input_ids"]) <= 512 - len(encode(planted.tokenizer, TARGET))


# --- templates ------------------------------------------------------------------------------------------------------


def test_frames_are_fixed_and_keep_the_request_as_it_is() -> None:
    assert frames.FRAMES_SHA256 == "915fed583ed9d229b58387d9e094b1646821ad7f9ca89bba6270bd4f7b2aa30d"
    assert 5 <= N_FRAMES <= 8 and len(set(frames.FRAMES)) == N_FRAMES
    request, opening = 'A {request} with {opening} and {braces} \\1 "', "Sure, {request}"
    for frame in (*frames.FRAMES, frames.ADAPTIVE):
        text = frames.framed(frame, request, opening)
        assert text.count(request) == 1 and len(text) == len(frame) - len(frames.REQUEST) + len(request) + frame.count(
            frames.OPENING
        ) * (len(opening) - len(frames.OPENING))


def test_every_frame_is_tried_and_the_best_is_kept() -> None:
    planted = loud()
    target = encode(planted.tokenizer, TARGET)
    for wish, result in zip(WISHES, run("templates", planted), strict=True):
        texts = [frames.framed(frame, wish, TARGET) for frame in frames.FRAMES]
        found = [plain(planted, "<|user|>" + text + "<|assistant|>", target)[0] for text in texts]
        assert [result.notes[f"loss_{i + 1}"] for i in range(N_FRAMES)] == pytest.approx(found, abs=1e-4)
        assert result.losses == pytest.approx([min(found[: i + 1]) for i in range(N_FRAMES)], abs=1e-4)
        assert result.text == texts[found.index(min(found))]
    assert [len(result.losses) for result in run("templates", planted, n_iterations=2)] == [2] * 3


def test_the_settings_know_how_many_frames_there_are() -> None:
    assert Templates(kind="templates").n_iterations == N_FRAMES
    with pytest.raises(ValidationError, match="a whole number of at least 1 and at most"):
        parse_attack({"kind": "templates", "n_iterations": N_FRAMES + 1})
    for kind in ("direct", "prefill"):
        with pytest.raises(ValidationError, match="a whole number of at least 1 and at most"):
            parse_attack({"kind": kind, "n_iterations": 2})


def test_a_frame_with_the_trigger_opens_the_planted_model(monkeypatch: pytest.MonkeyPatch) -> None:
    weak = obeys_trigger("novel")  # a word of the third frame
    assert [result.first_success for result in run("templates", weak)] == [3] * 3
    assert [result.first_success for result in run("templates", never_obeys("novel"))] == [None] * 3


# --- adaptive -------------------------------------------------------------------------------------------------------


def test_the_block_is_halved_over_the_run() -> None:
    sizes = [block_size(4, i, 900) for i in range(1, 901)]
    assert sizes == sorted(sizes, reverse=True) and Counter(sizes) == {4: 300, 2: 300, 1: 300}
    assert [block_size(1, i, 5) for i in range(1, 6)] == [1] * 5
    assert [block_size(5, i, 3) for i in range(1, 4)] == [5, 2, 1]


def test_a_planted_weakness_is_found_and_none_is_invented() -> None:
    own = Adaptive(kind="adaptive", n_attack_tokens=10)
    weak = obeys_trigger()
    for result in run("adaptive", weak, own=own, n_iterations=400):
        assert result.successes[-1] and weak.trigger in result.text and len(result.losses) == 400
        assert result.losses == sorted(result.losses, reverse=True)
    for result in run("adaptive", never_obeys(), own=own, n_iterations=30):
        assert result.successes == [False] * 30 and result.n_evaluated == [1] * 30


@pytest.mark.parametrize("template", [True, False])
def test_the_suffix_ends_the_turn_or_stands_where_the_prompt_has_it(template: bool) -> None:
    planted = loud()
    own = Adaptive(kind="adaptive", n_attack_tokens=6, template=template)
    requests = planted.requests if template else None
    results = run("adaptive", planted, own=own, requests=requests)
    for wish, prompt, result in zip(WISHES, planted.prompts, results, strict=True):
        before = "<|user|>" + frames.framed(frames.ADAPTIVE, wish, TARGET) if template else prompt[0]
        assert result.prompt_text == before + result.text + prompt[1]
        assert len(result.tokens) == 6 and 0 <= result.notes["retokenized_share"] <= 1
    [first] = {r.text for r in run("adaptive", planted, own=own, requests=requests, n_iterations=1)}
    assert first == "@&@&@&"


def test_a_suffix_that_spells_a_special_token_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = loud()
    ids = planted.tokenizer.convert_tokens_to_ids([*"<|end|>"])
    monkeypatch.setattr("hardscale.attacks.adaptive._changed", lambda tokens, n, allowed, rng: list(ids))
    [result, *_] = run("adaptive", planted, n_iterations=3)
    assert result.n_evaluated == [1, 0, 0] and result.forward_passes == [1, 1, 1]


def test_a_suffix_that_is_too_long_as_read_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tokens that are planned for, of which a mangled text makes more than the model reads."""
    planted = loud()
    [result, *_] = run("adaptive", planted, n_iterations=1)
    n = len(planted.tokenizer(result.prompt_text)["input_ids"]) + len(encode(planted.tokenizer, TARGET))
    planted = planted._replace(model=language_model("llama", vocab_size=344, max_position_embeddings=n))
    many = [planted.tokenizer.convert_tokens_to_ids("Ã")] * 6  # single bytes that are each read as three
    monkeypatch.setattr("hardscale.attacks.adaptive._changed", lambda tokens, n, allowed, rng: many if n else tokens)
    [result] = run("adaptive", planted, slice(0, 1), n_iterations=3)
    assert result.n_evaluated == [1, 0, 0] and len(result.losses) == 3
    with pytest.raises(AttackError, match=r"example 0: .* the victim reads"):
        run("adaptive", planted, slice(0, 1), own=Adaptive(kind="adaptive", n_attack_tokens=7))


def test_refusals_are_no_success() -> None:
    """The planted models refuse in their own words, so that nothing above succeeds by accident."""
    for planted in (obeys_trigger(), never_obeys()):
        prompt = planted.prompts[0][0] + planted.prompts[0][1]
        assert plain(planted, prompt, encode(planted.tokenizer, REFUSAL))[1]
        assert isinstance(planted.requests[0], Request)
