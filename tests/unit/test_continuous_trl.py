"""IPO and DPO from requests and answers to gradients, against a library that trains on preferences (trl).

What both define is compared exactly: trl's trainer, collator and fused log-probabilities on one side, our rows, sheets,
references and objective on the other, with the same model, reference and texts.

* IPO: ``(h - 1 / (2 beta))^2``, h a difference of log-ratios per token. ``beta`` is the tau of the IPO paper in both.
  trl 1.16 divides each answer's sum by its number of tokens, as we do; the paper writes sums, as early versions of trl
  took them.
* DPO: ``-log sigmoid(beta h)``, h a difference of sums over tokens, in both ("sigmoid" in trl; its "sigmoid_norm" takes
  means). Label smoothing is 0.
* Both average over pairs. The default beta is 0.25 here, as published for C-AdvIPO, and 0.1 in trl: it is given.

trl has no cut-offs of tokens, no attack and no NPO; here the first two are off and the last is left out. It also trains
on what a chat template writes after the end of a turn, where our rows end: the template of these tests writes nothing.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from continuous_kit import TEMPLATE, behaviors, chat_tokenizer, tiny_lm
from transformers import PreTrainedTokenizerFast

from hardscale.models.chat import ChatTemplate
from hardscale.settings.defenses import CAdvIPO
from hardscale.training.continuous.encode import triples_of
from hardscale.training.continuous.objective import Preference
from hardscale.training.continuous.packing import pack_batch, sequences_of
from hardscale.training.continuous.references import references
from hardscale.training.continuous.rows import Part, Triple
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.distributed import Group

CPU = torch.device("cpu")
NAMES = {"ipo": "ipo", "dpo": "sigmoid"}
ASKED = behaviors()[:3]
Outcome = tuple[float, dict[str, torch.Tensor]]


def tokenizer_of_turns() -> PreTrainedTokenizerFast:
    """Nothing is written after the end of a turn."""
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("<|end|>\n", "<|end|>")
    return tokenizer


@pytest.fixture(scope="module")
def triples() -> list[Triple]:
    tokenizer = tokenizer_of_turns()
    found, n_left_out = triples_of(ASKED, ChatTemplate(tokenizer, None), tokenizer, 256)
    assert len(found) == 6 and not n_left_out and len({len(t.away) for t in found}) > 2
    return found


@pytest.fixture
def alone() -> Iterator[None]:
    """What a trainer changes for the whole process, as it was: environment, random states, accelerate's state."""
    from accelerate.state import AcceleratorState

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    with mock.patch.dict(os.environ):
        yield
    AcceleratorState._reset_state(reset_partial_state=True)
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def of_trl(folder: Path, triples: list[Triple], loss: str, beta: float) -> Outcome:
    """Loss and gradients of its own step on all pairs, from texts."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    rows = [
        {
            "prompt": turn("user", one.behavior),
            "chosen": turn("assistant", one.safe_answer),
            "rejected": turn("assistant", target),
        }
        for one in ASKED
        for target in one.targets
    ]
    config = DPOConfig(str(folder), loss_type=[NAMES[loss]], beta=beta, max_length=None, use_cpu=True, bf16=False)
    lm, tokenizer = tiny_lm(0), tokenizer_of_turns()
    trainer = DPOTrainer(lm, tiny_lm(1), config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    encoded = list(trainer.train_dataset)
    read = [[tuple(row[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected")] for row in encoded]
    assert read == [[one.prompt, one.toward, one.away] for one in triples], "the same tokens"
    value = trainer.compute_loss(lm, trainer.data_collator(encoded))
    value.backward()
    return value.item(), {name: parameter.grad for name, parameter in lm.named_parameters()}


def of_ours(triples: list[Triple], loss: str, beta: float) -> Outcome:
    """Loss and gradients of all pairs in two micro-batches, references computed once and kept by row."""
    settings = CAdvIPO(kind="c_advipo", attack=None, loss=loss, beta=beta, away_cutoff=None)
    reference, group = ScoredLM(tiny_lm(1)), Group(0, 1, CPU)
    known = references(reference, triples[::-1], Preference(settings, {}), group, 0)
    lm, objective, total = tiny_lm(0), Preference(settings, known), 0.0
    counts = objective.counts(triples)
    for part in (Part(tuple(triples[1::2])), Part(tuple(triples[::2]))):
        sheet = pack_batch(sequences_of(part, objective.terms), 0, CPU)
        sums = objective.sums(ScoredLM(lm)(**sheet.asked, input_ids=sheet.input_ids), sheet, part)
        value = objective.loss(sums, counts, objective.slopes(sums.tolist(), counts))
        value.backward()
        total += value.item()
    return total, {name: parameter.grad for name, parameter in lm.named_parameters()}


@pytest.mark.parametrize(("loss", "beta"), [("ipo", 0.25), ("dpo", 0.1)])
def test_loss_and_gradients_are_those_of_trl(tmp_path, triples, alone, loss, beta):
    pytest.importorskip("trl")
    value, gradients = of_ours(triples, loss, beta)
    wanted, oracle = of_trl(tmp_path, triples, loss, beta)
    assert value == pytest.approx(wanted, abs=1e-5)
    assert gradients.keys() == oracle.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, oracle[name], rtol=1e-5, atol=1e-5), name
