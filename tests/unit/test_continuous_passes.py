"""The papers' cost table from formulas, and the passes that training really makes against them."""

from dataclasses import replace

import pytest
import torch
from continuous_kit import make_inputs, spec
from train_kit import in_ranks

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.schemas import TERMS
from hardscale.artifacts.tables import read_table
from hardscale.models.flop_counter import FlopCounter, Length, PassCounts
from hardscale.models.flops import ModelShape, attack_passes, attended_positions, continuous_passes, r2d2_passes
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.continuous.trainer import continuous
from hardscale.training.options import RunOptions


def test_the_cost_table():
    assert attack_passes(10) == 20
    assert continuous_passes(360, 64, 0, 10) == 552_960
    assert continuous_passes(1, 8, 56, 10) == 304  # 300 in the paper, whose mean share is a little lower
    gcg = r2d2_passes(1, 1, 0, 5, 512) - 2
    assert gcg == 2_570  # 2,565 forward and 5 backward
    assert gcg / attack_passes(10) == 128.5
    assert r2d2_passes(2_000, 32, 256, 5, 512) == 165_632_000
    assert r2d2_passes(2_000, 32, 256, 5, 512) / continuous_passes(360, 64, 0, 10) == pytest.approx(299.5, abs=0.05)


def test_operations_by_hand():
    shape = ModelShape(2, 8, 16, 2, 2, 50, False, n_body_params=1_000)
    tokens, read, labels = 6, 5, 3  # the last token is predicted and not read
    attention = 4 * 8 * 2 * attended_positions(read)
    head = 2 * 8 * 50 * labels
    plain = FlopCounter(shape, trains_all=True, reads_last=False)
    attack = plain.attack([Length(tokens, labels)], 11, 10)
    assert attack.values()[:4] == [11, 10, 66, 60]
    forward, backward = 2_000 * read + head + attention, 2_000 * read + head + 2 * attention
    assert attack.flops_exact == 11 * forward + 10 * backward
    assert attack.flops(100) == 2 * 100 * 66 + 4 * 100 * 60
    training = plain.training([Length(tokens, labels)])
    assert training.values()[:4] == [1, 1, 6, 6]
    assert training.flops_exact == forward + backward + 2_000 * read + head  # the weights' gradients
    adapted = FlopCounter(shape, n_adapter_params=30, reads_last=False).training([Length(tokens, labels)])
    assert adapted.flops_exact == forward + backward + 2 * 60 * read + 60 * read
    assert PassCounts(1, 2, 3, 4, 5) + PassCounts(1, 1, 1, 1, 1) == PassCounts(2, 3, 4, 5, 6)


def test_the_running_totals_of_an_attack_are_the_prices_of_its_passes():
    """A gradient is a forward and a backward for the inputs; a stored prefix is one that another pass runs."""
    shape = ModelShape(2, 8, 16, 2, 2, 50, False, n_body_params=1_000)
    counter = FlopCounter(shape, 3 * shape.vocab, 4)
    stored = FlopCounter(shape).attack([Length(4, 0)], 1, 0)
    counter.forward(5, 9)
    counter.close_iteration()
    batch = counter.attack([Length(9, 3, 4)], 5, 0)
    assert PassCounts.last_of(counter) == replace(batch, flops_exact=stored.flops_exact + batch.flops_exact)
    counter.gradient(9, 2)
    counter.elsewhere(7.4, 1, 100.0)
    counter.close_iteration()
    batch = counter.attack([Length(9, 3, 4)], 6, 1)
    further = stored.flops_exact + 2.0 * 2 * 50 * 8 + 100.0
    assert PassCounts.last_of(counter) == PassCounts(7, 1, 6 * 9 + 7, 9, batch.flops_exact + further)
    counter.reply(9, 2)
    counter.close_iteration()
    assert counter.forward_passes == [5, 7, 8] and counter.forward_tokens == [45, 61, 72]
    reply = FlopCounter(shape).attack([Length(11, 2)], 1, 0).flops_exact
    assert counter.flops_exact[2] - counter.flops_exact[1] == reply


class _Probe(torch.autograd.Function):
    """Counts the rows that gradients come back to."""

    counts: dict[str, int]

    @staticmethod
    def forward(ctx, embeds):
        _Probe.counts["forward"] += len(embeds)
        return embeds.clone()

    @staticmethod
    def backward(ctx, gradient):
        _Probe.counts["backward"] += len(gradient)
        return gradient


def counted(group, settings, made, root):
    """Sequences that went through the model forward and backward in a whole training."""
    _Probe.counts = {"forward": 0, "backward": 0}
    plain = ScoredLM._logits
    ScoredLM._logits = lambda self, embeds, *more: plain(self, _Probe.apply(embeds), *more)
    continuous(settings, *made, root / "state", root / "out", group, RunOptions())
    return _Probe.counts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (spec(share_prompts=False), continuous_passes(4, 3, 3, 3)),
        (spec("c_advipo", share_prompts=False), continuous_passes(4, 6, 0, 3)),
        (spec("c_advipo", loss="npo", attack=None), continuous_passes(4, 6, 0, 0, 1)),
        (spec(attack=None, away_weight=0.0), continuous_passes(4, 3, 3, 0, 1)),
    ],
)
def test_the_passes_made_are_those_of_the_formula(made, tmp_path, settings, expected):
    [counts] = in_ranks(counted, settings, made, tmp_path)
    facts = open_artifact(tmp_path / "out", "model")["facts"]
    assert facts["n_forward_passes"] + facts["n_backward_passes"] == expected
    assert counts["backward"] == facts["n_backward_passes"]
    assert counts["forward"] == facts["n_forward_passes"] + facts["n_reference_passes"]
    terms = read_table(tmp_path / "out" / "terms.parquet", TERMS).to_pylist()
    assert sum(row["forward_passes"] for row in terms) == facts["n_forward_passes"]
    attack = (settings["settings"]["attack"] or {}).get("steps", 0)
    assert {row["forward_passes"] - row["backward_passes"] for row in terms} == {0}
    assert (terms[0]["attack_loss_first"] is None) == (not attack)
