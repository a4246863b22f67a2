"""BEAST: its draws, its search against searches written plainly, what it costs, and a planted weakness."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest
import torch
from attack_fixtures import PROMPTS, byte_tokenizer, classifier, language_model, plain_logits
from planted import Planted, never_obeys, obeys_trigger
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.base import run_attack
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult, Helper
from hardscale.attacks.sampler import Sampler, draw
from hardscale.errors import AttackError
from hardscale.models.counts import classifier_parameters, generative_parameters, model_shape
from hardscale.models.flops import exact_forward_flops
from hardscale.settings.attacks import Beast

TOKENIZER = byte_tokenizer()
CODEC = Codec(TOKENIZER, len(TOKENIZER), closing=False)
KEYS = [3, 1, 4, 15, 9]
TARGET = " good"


def run(model: Any, prompts: Any = PROMPTS, **options: Any) -> list[AttackResult]:
    """Every draw is scored, as published; ``read_back`` scores those alone that are read as they were drawn."""
    more = {"top_p": options.pop("top_p", 1.0), "read_back": options.pop("read_back", False)}
    own = Beast.model_validate({"kind": "beast", "beam": 3, "branching": 4, **more})
    n = len(prompts)
    if hasattr(model, "score"):
        options = {"targets": [1] * n, "labels": [0] * n, "helpers": {"sampler": helper()}} | options
    values = {"targets": [TARGET] * n, "n_iterations": 4, "own": own} | options
    block = values.pop("own").model_copy(update={"n_iterations": values.pop("n_iterations")})
    return run_attack(block, model, TOKENIZER, prompts, **values)


def helper(seed: int = 1) -> Helper:
    return Helper(language_model("gpt_neox", seed, num_hidden_layers=1), TOKENIZER)


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER(text)["input_ids"])


def plain_loss(model: Any, text: str) -> float:
    """Loss of a prompt text by the library's own forward: of the class 1, or of the target."""
    if hasattr(model, "score"):
        return float(cross_entropy(plain_logits(model, TOKENIZER, text)[None], torch.tensor([1])))
    ids, wanted = ids_of(text), ids_of(TARGET)
    with torch.no_grad():
        logits = model(torch.tensor([ids + wanted])).logits[0, len(ids) - 1 : -1]
    return float(cross_entropy(logits, torch.tensor(wanted)))


def plain_search(model: Any, sampler: Any, prompt: tuple[str, str], key: int, n_iterations: int) -> list[Any]:
    """The algorithm for one example with plain forwards: the best (loss, text) after each iteration, and how many."""
    before, after = prompt
    allowed = torch.tensor(CODEC.allowed)
    beams: list[list[int]] = [[]]
    best: tuple[float, str] | None = None
    history = []
    for iteration in range(1, n_iterations + 1):
        scored = []
        for row, beam in enumerate(beams):
            with torch.no_grad():
                logits = sampler(torch.tensor([ids_of(before) + beam])).logits[0, -1].float()
            generator = torch.Generator().manual_seed(derive_seed(0, "beast", key, iteration, row))
            for token in allowed[draw(logits[allowed], 3 if iteration == 1 else 4, 1.0, generator)].tolist():
                text = TOKENIZER.decode([*beam, token], clean_up_tokenization_spaces=False)
                scored.append((plain_loss(model, before + text + after), [*beam, token], text))
        scored.sort(key=lambda one: one[0])
        beams = [tokens for _, tokens, _ in scored[:3]]
        if best is None or scored[0][0] < best[0]:
            best = (scored[0][0], scored[0][2])
        history.append((*best, len(scored)))
    return history


@pytest.mark.parametrize("kind", ["language", "classifier"])
def test_the_search_is_the_algorithm_written_plainly(kind: str) -> None:
    sampler = helper()
    model = language_model("qwen2") if kind == "language" else classifier("qwen2")
    results = run(model, keys=KEYS, **({} if kind == "language" else {"helpers": {"sampler": sampler}}))
    for prompt, key, result in zip(PROMPTS, KEYS, results, strict=True):
        expected = plain_search(model, model if kind == "language" else sampler.model, prompt, key, 4)
        assert result.losses == pytest.approx([loss for loss, *_ in expected], abs=1e-4)
        assert result.text == expected[-1][1]
        assert result.n_evaluated == [n for *_, n in expected] == [3, 12, 12, 12]


@pytest.mark.parametrize("kind", ["language", "classifier"])
def test_with_read_back_the_search_is_over_texts_read_as_drawn(kind: str) -> None:
    """The children of a beam are its first draws whose text the tokenizer reads as them, after the same seed."""
    sampler = helper()
    model = language_model("qwen2") if kind == "language" else classifier("qwen2")
    proposing = model if kind == "language" else sampler.model
    before, after = PROMPTS[0]
    others = {} if kind == "language" else {"helpers": {"sampler": sampler}}
    [result] = run(model, PROMPTS[:1], keys=KEYS[:1], read_back=True, n_iterations=1, **others)
    allowed = torch.tensor(CODEC.allowed)
    with torch.no_grad():
        logits = proposing(torch.tensor([ids_of(before)])).logits[0, -1].float()
    generator = torch.Generator().manual_seed(derive_seed(0, "beast", KEYS[0], 1, 0))
    order = allowed[draw(logits[allowed], 48, 1.0, generator)].tolist()
    kept = []
    for place, token in enumerate(order, start=1):
        text = TOKENIZER.decode([token])
        if len(kept) < 3 and ids_of(before + text + after) == [*ids_of(before), token, *ids_of(after)]:
            kept.append((plain_loss(model, before + text + after), text, place))
    assert result.n_evaluated == [3] and result.notes["retokenized_share"] == 0.0
    assert result.losses == [pytest.approx(min(loss for loss, *_ in kept), abs=1e-4)]
    assert result.text == min(kept)[1]
    assert result.notes["dropped_share"] == pytest.approx(1 - 3 / kept[-1][2])


def test_texts_are_read_back_on_language_models_unless_the_study_says_otherwise() -> None:
    block = Beast(kind="beast")
    assert block.for_victim(chat=True).read_back and block.for_victim(chat=False).read_back is False
    assert Beast(kind="beast", read_back=False).for_victim(chat=True).read_back is False
    own = Beast(kind="beast", beam=3, branching=4, n_iterations=4)
    results = run_attack(own, language_model(), TOKENIZER, PROMPTS, [TARGET] * 5)
    for (before, after), result in zip(PROMPTS, results, strict=True):
        assert result.notes["retokenized_share"] == 0.0
        ids = ids_of(before + result.text + after)
        assert any(ids[at : at + len(result.tokens)] == list(result.tokens) for at in range(len(ids)))


def letters() -> PreTrainedTokenizerFast:
    """A tokenizer of single letters."""
    tokenizer = Tokenizer(
        models.WordLevel({"<e>": 0, "<u>": 1, **{letter: i + 2 for i, letter in enumerate("abcde")}}, "<u>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", pad_token="<e>", unk_token="<u>")


def test_with_all_tokens_in_all_beams_the_search_is_exhaustive() -> None:
    tokenizer = letters()
    torch.manual_seed(2)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=7, initializer_range=0.7, pad_token_id=0, **shape)).eval()
    prompts, targets = [("abad", "e"), ("cc", "da")], ["bd", "a"]
    own = Beast(kind="beast", beam=25, branching=5, n_iterations=3)
    results = run_attack(own, model, tokenizer, prompts, targets)
    for (before, after), target, result in zip(prompts, targets, results, strict=True):
        losses: dict[str, float] = {}
        for n in (1, 2, 3):
            for some in itertools.product("abcde", repeat=n):
                text = "".join(some)
                ids = tokenizer(before + text + after + target)["input_ids"]
                with torch.no_grad():
                    logits = model(torch.tensor([ids])).logits[0, -1 - len(target) : -1]
                losses[text] = float(cross_entropy(logits, torch.tensor(ids[-len(target) :])))
        best = [min(value for text, value in losses.items() if len(text) <= n) for n in (1, 2, 3)]
        assert result.losses == pytest.approx(best, abs=1e-5)
        assert losses[result.text] == pytest.approx(best[-1], abs=1e-5)
        assert result.n_evaluated == [5, 25, 125]


def test_draws_follow_the_distribution_without_replacement() -> None:
    logits = torch.tensor([1.5, 0.0, -0.5, 0.7])
    p = logits.softmax(0).tolist()
    n = 6_000
    seen = Counter(tuple(draw(logits, 2, 1.0, torch.Generator().manual_seed(i)).tolist()) for i in range(n))
    chi2 = 0.0
    for first, second in itertools.permutations(range(4), 2):
        expected = n * p[first] * p[second] / (1 - p[first])
        chi2 += (seen.pop((first, second), 0) - expected) ** 2 / expected
    assert not seen and chi2 < 31.3  # 0.999 of chi-square with 11 degrees of freedom


def test_top_p_leaves_the_smallest_likely_set() -> None:
    logits = torch.tensor([0.1, 0.4, 0.3, 0.2]).log()
    for top_p, kept in ((0.4, {1}), (0.41, {1, 2}), (0.7, {1, 2}), (0.95, {1, 2, 3, 0}), (1.0, {0, 1, 2, 3})):
        found = draw(logits, 9, top_p, torch.Generator().manual_seed(0)).tolist()
        assert set(found) == kept and len(found) == len(kept)
    [narrow, wide] = run(language_model(), [PROMPTS[0]], top_p=1e-6), run(language_model(), [PROMPTS[0]])
    assert narrow[0].n_evaluated == [1, 1, 1, 1] and wide[0].n_evaluated == [3, 12, 12, 12]


def test_scores_are_those_of_the_text_and_never_rise() -> None:
    for model in (language_model("llama"), classifier("llama")):
        results = run(model, n_iterations=8)
        for (before, after), result in zip(PROMPTS, results, strict=True):
            assert result.prompt_text == before + result.text + after
            assert result.losses == sorted(result.losses, reverse=True)
            assert (
                result.losses[-1] == result.best_loss == pytest.approx(plain_loss(model, result.prompt_text), abs=1e-4)
            )
            assert CODEC.decode([result.tokens]) == [result.text] and set(result.tokens) <= set(CODEC.allowed)
        shares = [result.notes["retokenized_share"] for result in results]
        assert 0 < max(shares) < 1 and min(shares) >= 0  # drawn tokens often join with their neighbors


def test_texts_that_spell_a_special_token_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that writes the end-of-text marker, letter by letter."""
    weak = obeys_trigger()
    ids = weak.tokenizer.convert_tokens_to_ids([*"<|end|>"])
    codec = Codec(weak.tokenizer, len(weak.tokenizer), closing=False)
    assert set(ids) <= set(codec.allowed)
    assert codec.holds_marker("a<|end|>") and not codec.holds_marker("<|en d|>")
    step = itertools.count()
    monkeypatch.setattr(Sampler, "propose", lambda self, wishes: [[[ids[min(next(step), 6)]]] for _ in wishes])
    own = Beast(kind="beast", beam=1, branching=1, n_iterations=8)
    [result] = run_attack(own, weak.model, weak.tokenizer, weak.prompts[:1], weak.targets[:1])
    assert result.n_evaluated == [1] * 6 + [0, 0]  # the seventh letter closes the marker
    assert result.notes["dropped_share"] == 0.25
    assert result.text in ["<|end|"[:n] for n in range(1, 7)]


@pytest.mark.parametrize("kind", ["language", "classifier"])
def test_company_caches_and_batches_change_nothing(kind: str) -> None:
    model = language_model("gpt_neox") if kind == "language" else classifier("gpt_neox")
    together = run(model, keys=KEYS, seed=5)
    small = run(model, keys=KEYS, seed=5, use_cache=False, tokens_per_batch=90, examples_per_batch=2)
    for i, (prompt, key) in enumerate(zip(PROMPTS, KEYS, strict=True)):
        [alone] = run(model, [prompt], keys=[key], seed=5)
        for other in (alone, small[i]):
            assert (other.text, other.tokens, other.n_evaluated) == (
                together[i].text,
                together[i].tokens,
                together[i].n_evaluated,
            )
            assert other.losses == pytest.approx(together[i].losses, abs=1e-4)
            assert other.forward_tokens == together[i].forward_tokens and other.notes == together[i].notes
        assert alone.flops_exact == together[i].flops_exact


def test_the_same_seed_gives_the_same_bits_and_global_randomness_is_left_alone() -> None:
    model = language_model()
    torch.manual_seed(3)
    random.seed(3)
    state = torch.get_rng_state(), random.getstate()
    first, again, other = run(model, seed=1), run(model, seed=1), run(model, seed=2)
    assert first == again and [r.text for r in first] != [r.text for r in other]
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[1]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("kind", ["language", "classifier"])
def test_cost_equals_a_count_by_hand(kind: str, use_cache: bool) -> None:
    """Texts that are read as other tokens have other lengths, so here the victim's texts are counted as they were."""
    sampler, proposing = helper(), kind == "classifier"
    model = classifier("llama") if proposing else language_model("llama")
    [result] = run(model, [PROMPTS[0]], use_cache=use_cache, n_iterations=3)
    shape, other = model_shape(model.config), model_shape((sampler.model if proposing else model).config)
    n_before = len(ids_of(PROMPTS[0][0]))
    rows = [1, 3, 3]
    lengths = [n_before + t for t in range(3)]
    sampled = sum(n * length for n, length in zip(rows, lengths, strict=True))
    assert result.notes["sampler_forward_tokens"] == sampled
    ratio = 1.0
    if proposing:
        ratio = generative_parameters(sampler.model.config) / classifier_parameters(model.config)
    stored = n_before if use_cache else 0
    victim_tokens = result.forward_tokens[-1] - round(ratio * sampled)
    n_victim = sum(result.n_evaluated)
    assert n_victim == 3 + 12 + 12
    after = len(ids_of(PROMPTS[0][1])) + (0 if proposing else len(ids_of(TARGET)))
    most = sum(n * (length + 1 + after) for n, length in zip(result.n_evaluated, lengths, strict=True))
    assert most - 2 * n_victim <= victim_tokens <= most + 2 * n_victim
    assert result.forward_passes[-1] == n_victim + sum(rows)
    assert result.backward_tokens == result.backward_passes == [0, 0, 0]
    drawn = exact_forward_flops(other, stored) if stored and proposing else 0.0
    for n, length in zip(rows, lengths, strict=True):
        kept = min(stored, length - 1)
        drawn += n * exact_forward_flops(other, length - kept, kept, other.vocab)
    left = result.flops_exact[-1] - drawn - (exact_forward_flops(shape, stored) if stored else 0.0)
    products = 2 if proposing else len(ids_of(TARGET)) * shape.vocab
    each = [
        n * exact_forward_flops(shape, length + 1 + after - stored, stored, products)
        for n, length in zip(result.n_evaluated, lengths, strict=True)
    ]
    assert left == pytest.approx(sum(each), rel=0.2)


def planted_run(model: Planted, n_iterations: int = 10) -> list[AttackResult]:
    own = Beast(kind="beast", n_iterations=n_iterations)
    return run_attack(own, model.model, model.tokenizer, model.prompts, model.targets, requests=model.requests)


def test_a_planted_weakness_is_found_and_none_is_invented() -> None:
    weak = obeys_trigger()
    found = planted_run(weak)
    assert all(result.successes[-1] and weak.trigger in result.text for result in found)
    assert all(result.first_success == 1 + result.successes.index(True) for result in found)
    for result in planted_run(never_obeys(), n_iterations=4):
        assert result.first_success is None and result.successes == [False] * 4 and len(result.losses) == 4
        assert result.n_evaluated == [15, 225, 225, 225]


def test_samplers_that_do_not_fit_are_refused() -> None:
    model = classifier()
    foreign = Helper(obeys_trigger().model, obeys_trigger().tokenizer)
    short = Helper(language_model(vocab_size=300), TOKENIZER)
    victim = Beast(kind="beast", sampler="victim")
    for options, message in (
        ({"helpers": {}}, "a classifier cannot propose tokens"),
        ({"own": victim}, "a classifier cannot propose tokens"),
        ({"helpers": {"sampler": foreign}}, "its tokenizer gives other ids"),
        ({"helpers": {"sampler": short}}, "has 300 tokens"),
        ({"prompts": [("", " good")]}, "example 0: no token stands before"),
        ({"prompts": [PROMPTS[0], ("the dog " * 300, "")], "keys": [7, 8]}, "example 8: .* the victim reads 256"),
    ):
        with pytest.raises(AttackError, match=message):
            run(model, **options)  # type: ignore[arg-type]
