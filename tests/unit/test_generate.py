"""Replies: a batch writes what each prompt alone would, as the library's own generation does; sampling is seeded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attack_fixtures import TEXTS, byte_tokenizer, language_model
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from hardscale.errors import ModelError
from hardscale.models import generate
from hardscale.models.generate import Sampling, draw, end_tokens, reply
from hardscale.runtime.memory import Budget

TOKENIZER = byte_tokenizer()
PROMPTS = [TOKENIZER(text)["input_ids"] for text in (TEXTS[0], "the cat", TEXTS[2], "g", "and then they")]
FAMILIES = ["gpt_neox", "llama", "qwen2", "qwen3", "mistral"]


def plain(model: Any, prompt: list[int], n: int, embeds: torch.Tensor | None = None) -> list[int]:
    """Greedy decoding without a cache, one forward of everything a token."""
    table, written = model.get_input_embeddings(), []
    held = table(torch.tensor([prompt])) if embeds is None else embeds
    with torch.no_grad():
        for _ in range(n):
            token = int(model(inputs_embeds=held).logits[0, -1].argmax())
            if token in end_tokens(model, TOKENIZER):
                break
            written.append(token)
            held = torch.cat([held, table(torch.tensor([[token]]))], dim=1)
    return written


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_batch_is_the_same_as_one_at_a_time(kind: str) -> None:
    model = language_model(kind)
    together = reply(model, TOKENIZER, PROMPTS, 12)
    alone = [reply(model, TOKENIZER, [prompt], 12)[0] for prompt in PROMPTS]
    assert together == alone == [TOKENIZER.decode(plain(model, prompt, 12)) for prompt in PROMPTS]
    assert len(set(together)) > 1


def test_a_sliding_window_reads_what_it_may() -> None:
    model = language_model("mistral", sliding_window=8)
    expected = [TOKENIZER.decode(plain(model, prompt, 12)) for prompt in PROMPTS]
    assert reply(model, TOKENIZER, PROMPTS, 12) == expected


def test_it_writes_what_the_library_writes() -> None:
    model = language_model("llama")
    for prompt, mine in zip(PROMPTS, reply(model, TOKENIZER, PROMPTS, 10), strict=True):
        ids = torch.tensor([prompt])
        done = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
        assert mine == TOKENIZER.decode(done[0, len(prompt) :], skip_special_tokens=True)


def test_an_end_token_ends_one_row_and_not_the_others() -> None:
    model = language_model("llama")
    full = [plain(model, prompt, 12) for prompt in PROMPTS]
    model.generation_config.eos_token_id = [full[0][4], len(TOKENIZER) - 1]
    found = reply(model, TOKENIZER, PROMPTS, 12)
    for tokens, text in zip(full, found, strict=True):
        ends = [i for i, token in enumerate(tokens) if token in end_tokens(model, TOKENIZER)]
        assert text == TOKENIZER.decode(tokens[: min(ends, default=12)])
    assert TOKENIZER.eos_token_id in end_tokens(model, TOKENIZER)


def test_perturbations_stay_with_their_row() -> None:
    model = language_model("qwen2")
    torch.manual_seed(1)
    deltas = [torch.randn(len(prompt), 32) if i % 2 else None for i, prompt in enumerate(PROMPTS)]
    found = reply(model, TOKENIZER, PROMPTS, 8, perturbations=deltas)
    table = model.get_input_embeddings()
    changed = 0
    for prompt, delta, text in zip(PROMPTS, deltas, found, strict=True):
        embeds = table(torch.tensor([prompt])).detach()
        assert text == TOKENIZER.decode(plain(model, prompt, 8, embeds if delta is None else embeds + delta))
        changed += text != TOKENIZER.decode(plain(model, prompt, 8))
    assert changed
    zero = [torch.zeros(len(prompt), 32) for prompt in PROMPTS]
    assert reply(model, TOKENIZER, PROMPTS, 8, perturbations=zero) == reply(model, TOKENIZER, PROMPTS, 8)


def test_sampling_repeats_and_does_not_depend_on_the_batch() -> None:
    model = language_model("llama")
    how = Sampling(temperature=1.5, top_p=0.9, seed=3)
    first = reply(model, TOKENIZER, PROMPTS, 8, sample=how, keys=[5, 6, 7, 8, 9])
    assert first == reply(model, TOKENIZER, PROMPTS, 8, sample=how, keys=[5, 6, 7, 8, 9])
    assert first[2] == reply(model, TOKENIZER, [PROMPTS[2]], 8, sample=how, keys=[7])[0]
    assert first != reply(model, TOKENIZER, PROMPTS, 8, sample=Sampling(1.5, 0.9, 4), keys=[5, 6, 7, 8, 9])
    assert len(set(reply(model, TOKENIZER, [PROMPTS[1]] * 4, 8, sample=how))) > 1
    cold = reply(model, TOKENIZER, PROMPTS, 8, sample=Sampling(temperature=1e-4))
    assert cold == reply(model, TOKENIZER, PROMPTS, 8)


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.0, 0.3, 0.1])
    logits = probabilities.log().expand(1000, -1)
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = draw(logits, uniform, Sampling()).bincount(minlength=5)
    assert counts.tolist() == [100, 500, 0, 300, 100]
    counts = draw(logits, uniform, Sampling(top_p=0.7)).bincount(minlength=5)
    assert counts.tolist() == [0, 625, 0, 375, 0]
    assert set(draw(logits, uniform, Sampling(top_p=0.4)).tolist()) == {1}
    counts = draw(logits, uniform, Sampling(top_k=2)).bincount(minlength=5)
    assert counts.tolist() == [0, 625, 0, 375, 0]
    # top_p is a share of what top_k leaves.
    assert set(draw(logits, uniform, Sampling(top_k=2, top_p=0.6)).tolist()) == {1}
    assert draw(logits, uniform, Sampling(top_k=9)).equal(draw(logits, uniform, Sampling()))


def test_draws_leave_what_the_librarys_own_filters_leave() -> None:
    logits = torch.randn(20, 40, generator=torch.Generator().manual_seed(0))
    how = Sampling(temperature=0.8, top_k=7, top_p=0.9)
    kept = TopPLogitsWarper(0.9)(None, TopKLogitsWarper(7)(None, logits / 0.8))
    wanted = kept.double().softmax(dim=1)
    n = 4000
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    for row, chances in zip(logits, wanted, strict=True):
        shares = draw(row.expand(n, -1), uniform, how).bincount(minlength=40) / n
        assert (shares - chances).abs().max() < 2 / n


@pytest.mark.parametrize("sample", [None, Sampling(seed=1)])
def test_memory_that_runs_out_is_met_with_smaller_batches(
    sample: Sampling | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, budget = language_model("llama"), Budget()
    expected = reply(model, TOKENIZER, PROMPTS, 6, sample=sample)
    sizes, own = [], generate._Writer._logits

    def small(self: Any, what: Any, mask: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(mask))
        if len(mask) > 2 and mask.shape[1] > len(PROMPTS[0]) + 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(self, what, mask, *rest)

    monkeypatch.setattr(generate._Writer, "_logits", small)
    assert reply(model, TOKENIZER, PROMPTS, 6, sample=sample, budget=budget) == expected
    assert budget.halvings and sizes[0] == 5
    assert capsys.readouterr().err.count("out of memory; continuing") == budget.halvings
    monkeypatch.setattr(generate._Writer, "_logits", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(ModelError, match="prompt 3: out of memory with a single prompt"):
        reply(model, TOKENIZER, PROMPTS, 6)


def test_a_small_budget_changes_nothing() -> None:
    model, told = language_model("gpt_neox"), []
    expected = reply(model, TOKENIZER, PROMPTS, 6)
    assert reply(model, TOKENIZER, PROMPTS, 6, budget=Budget(40), callback=told.append) == expected
    assert sum(told) == len(PROMPTS) and len(told) > 2


def test_the_mode_of_the_model_is_left_as_it_was() -> None:
    model = language_model("gpt_neox").train()
    model.gpt_neox.layers[0].eval()
    reply(model, TOKENIZER, PROMPTS[:1], 2)
    assert model.training and not model.gpt_neox.layers[0].training


def test_what_can_not_be_answered_is_one_line() -> None:
    model = language_model("llama")
    with pytest.raises(ModelError, match="prompt 8: 0 tokens"):
        reply(model, TOKENIZER, [[1], []], 2, keys=[7, 8])
    with pytest.raises(ModelError, match="prompt 0: 256 tokens; give 1 to 255"):
        reply(model, TOKENIZER, [[1] * 256], 2)
    with pytest.raises(ModelError, match="perturbation of shape"):
        reply(model, TOKENIZER, [[1, 2]], 2, perturbations=[torch.zeros(3, 32)])
    with pytest.raises(ModelError, match="max_new_tokens: found 0"):
        reply(model, TOKENIZER, [[1, 2]], 0)
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(ModelError, match="prompt 4: the model's output is not a number"):
        reply(model, TOKENIZER, [[1, 2]], 2, keys=[4])


def test_a_reply_ends_where_the_model_can_read_no_further() -> None:
    model = language_model("llama")
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    texts = reply(model, TOKENIZER, [[1] * 250, [1] * 255, [1] * 3], 20)
    lengths = [len(plain(model, [1] * n, limit)) for n, limit in ((250, 6), (255, 1), (3, 20))]
    assert [len(TOKENIZER(text)["input_ids"]) > 0 for text in texts] == [n > 0 for n in lengths]
    assert texts[0] == TOKENIZER.decode(plain(model, [1] * 250, 6))


def test_nothing_to_answer_is_nothing() -> None:
    assert reply(language_model("llama"), TOKENIZER, [], 3) == []
