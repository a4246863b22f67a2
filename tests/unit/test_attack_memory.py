"""Attacks that run out of memory: smaller batches, the same traces, one line when nothing is left to halve."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from attack_fixtures import PROMPTS, byte_tokenizer, classifier

from hardscale.attacks.base import attack
from hardscale.attacks.classifier_victim import ClassifierVictim, classify
from hardscale.attacks.packing import MicroBatch, Slice, halves
from hardscale.attacks.results import AttackResult
from hardscale.attacks.victim import Inputs, Victim
from hardscale.errors import AttackError
from hardscale.runtime.memory import Budget, is_out_of_memory

TOKENIZER = byte_tokenizer()
GCG: dict[str, Any] = {"n_iterations": 4, "n_candidates": 32, "top_k": 24, "candidate_rng": "per_example"}
RANDOM: dict[str, Any] = {"method": "random_token", "n_iterations": 12}
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried ..."),
]


def run(model: Any, **options: Any) -> list[AttackResult]:
    n = len(PROMPTS)
    return attack(model, TOKENIZER, PROMPTS, [1] * n, labels=[0] * n, keys=range(n), n_attack_tokens=5, **options)


def memory_of(monkeypatch: pytest.MonkeyPatch, rows: int, error: Exception, sizes: list[int] | None = None) -> None:
    """No forward of more rows than these."""
    packed = Victim.packed

    def limited(self: Victim, blocks: Any, batch: MicroBatch) -> Inputs:
        if sizes is not None:
            sizes.append(batch.n_rows)
        if batch.n_rows > rows:
            raise error
        return packed(self, blocks, batch)

    monkeypatch.setattr(Victim, "packed", limited)


def judge_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this a row's last bits depend on how many others go through the same matrix product."""
    judge = ClassifierVictim.judge

    def alone(self: Any, inputs: Inputs, embeds: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        found = []
        for row in range(len(inputs.examples)):
            one = slice(row, row + 1)
            arguments = {k: v[one] if isinstance(v, torch.Tensor) else v for k, v in inputs.arguments.items()}
            part = Inputs(inputs.ids[one], inputs.examples[one], inputs.lengths[one], arguments)
            found.append(judge(self, part, None if embeds is None else embeds[one]))
        return torch.cat([losses for losses, _ in found]), torch.cat([successes for _, successes in found])

    monkeypatch.setattr(ClassifierVictim, "judge", alone)


@pytest.mark.parametrize("options", [GCG, RANDOM], ids=["gcg", "random_token"])
@pytest.mark.parametrize("rows", [1, 3])
def test_traces_are_the_same_to_the_byte_whatever_fits(
    options: dict[str, Any], rows: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_row_by_row(monkeypatch)
    model = classifier()
    whole = run(model, use_cache=False, **options)
    sizes: list[int] = []
    memory_of(monkeypatch, rows, ERRORS[0], sizes)
    budget = Budget()
    assert [asdict(r) for r in run(model, use_cache=False, tokens_per_batch=budget, **options)] == [
        asdict(result) for result in whole
    ]
    said = capsys.readouterr().err.splitlines()
    assert budget.halvings == len(said) == sum(size > rows for size in sizes) >= 2
    assert said[0] == "out of memory; continuing from the same point with batches 1/2 as large"
    first = next(i for i, size in enumerate(sizes) if size > rows)
    assert sizes[first + 1] == sizes[first] // 2


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "bert"])
@pytest.mark.parametrize("options", [GCG, RANDOM], ids=["gcg", "random_token"])
def test_with_stored_prefixes_texts_are_the_same_and_losses_to_their_last_bits(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier(kind)
    whole = run(model, **options)
    memory_of(monkeypatch, 3, ERRORS[1])
    for one, other in zip(run(model, **options), whole, strict=True):
        assert one.losses == pytest.approx(other.losses, abs=5e-6)
        left_out = {"losses": None, "best_loss": None}
        assert {**asdict(one), **left_out} == {**asdict(other), **left_out}


@pytest.mark.parametrize("error", ERRORS)
def test_what_is_taken_for_a_lack_of_memory(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = classifier(), [before + after for before, after in PROMPTS]
    expected = classify(model, TOKENIZER, texts)
    memory_of(monkeypatch, 2, error)
    torch.testing.assert_close(classify(model, TOKENIZER, texts), expected)


def test_other_errors_pass_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    memory_of(monkeypatch, 0, RuntimeError("shapes do not fit"), sizes)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(classifier(), **GCG)
    assert len(sizes) == 1


def test_no_memory_for_one_prompt_is_one_line_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_of(monkeypatch, 0, ERRORS[0])
    with pytest.raises(
        AttackError, match=r"example \d: out of memory with a single prompt of \d+ tokens; .*mem_mb"
    ) as e:
        run(classifier(), **GCG)
    assert "\n" not in str(e.value)


def test_halves_keep_rows_their_order_and_the_width_of_the_whole() -> None:
    slices = [Slice(2, 0, 3), Slice(0, 4, 5), Slice(1, 0, 3)]
    first, second = halves(MicroBatch(slices, slices))
    assert first.slices == [Slice(2, 0, 3)] and second.slices == [Slice(0, 4, 5), Slice(1, 0, 3)]
    assert first.whole == second.whole == slices
    parts = [part.slices for half in (first, second) for part in halves(half)]
    assert parts == [[Slice(2, 0, 1)], [Slice(2, 1, 3)], [Slice(0, 4, 5), Slice(1, 0, 1)], [Slice(1, 1, 3)]]
    [single] = halves(MicroBatch([Slice(0, 7, 8)], slices))
    assert single.n_rows == 1
