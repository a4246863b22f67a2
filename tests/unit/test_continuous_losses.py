"""Losses of continuous training against formulas written out by hand, and objectives against plain forward passes."""

import math

import pytest
import torch
from continuous_kit import tiny_lm
from torch.nn import functional

from hardscale.settings.defenses import CAdvIPO, CAdvUL
from hardscale.training.continuous import losses
from hardscale.training.continuous.objective import Preference, Unlikelihood
from hardscale.training.continuous.packing import Term, pack_batch, scatter, sequences_of
from hardscale.training.continuous.references import references
from hardscale.training.continuous.rows import Conversation, Part, Triple
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.distributed import Group

TRIPLES = (
    Triple((0, 0), (5, 6, 7), (0, 3), (11, 12, 13), (20, 21)),
    Triple((1, 2), (8, 9, 10, 40, 41), (1, 3), (14,), (22, 23, 24)),
)
TALKS = (Conversation(0, (1, 2, 3, 4), 2), Conversation(1, (7, 8), 2))  # the second has no labels
PART = Part(TRIPLES, TALKS)
CPU = torch.device("cpu")


# --- pure functions -------------------------------------------------------------------------------------------------


def test_log_probabilities_and_their_complements():
    logits = torch.tensor([[0.0, math.log(3.0)], [2.0, 2.0]])
    wanted = torch.tensor([1, 0])
    assert losses.log_probabilities(logits, wanted).exp().tolist() == pytest.approx([0.75, 0.5])
    assert losses.complement_log_probabilities(logits, wanted).exp().tolist() == pytest.approx([0.25, 0.5])
    sure = torch.tensor([[60.0, 0.0, 0.0]])  # 1 - p is 2 e^-60: far below what 1 - p in float32 can tell from 0
    complement = losses.complement_log_probabilities(sure, torch.tensor([0]))
    assert complement.item() == pytest.approx(math.log(2) - 60, rel=1e-6)


def test_the_cut_off_is_continuous_and_leaks():
    assert losses.cut_off(0.7, 0.5) == 0.7
    assert losses.cut_off(0.2, 0.5) == pytest.approx(0.999 * 0.5 + 0.001 * 0.2)
    assert losses.cut_off(0.2, 0.5, "published") == pytest.approx(0.5 + 0.001 * 0.2)
    assert losses.cut_off(0.5 - 1e-9, 0.5) == pytest.approx(0.5, abs=1e-8)
    assert losses.cut_off(0.5 - 1e-9, 0.5, "published") == pytest.approx(0.5005, abs=1e-8)  # the published jump
    assert losses.cut_off(-7.0, -5.0) == pytest.approx(-0.999 * 5 - 0.007)
    assert losses.cut_off(-7.0, None) == -7.0
    for form in ("continuous", "published"):
        for term in (0.1, 0.9, -0.3):
            rise = losses.cut_off(term + 1e-6, 0.5, form) - losses.cut_off(term - 1e-6, 0.5, form)
            assert losses.slope(term, 0.5) == pytest.approx(rise / 2e-6, rel=1e-4)


def test_unlikelihood_leaves_tokens_below_the_cut_off_alone():
    log_p = torch.tensor([math.log(0.5), -6.0], requires_grad=True)
    values = losses.unlikelihood_values(log_p, torch.log(1 - log_p.exp()), -5.0)
    assert values.tolist() == pytest.approx([math.log(2), 0.0])
    values.sum().backward()
    assert log_p.grad[0] == pytest.approx(1.0) and log_p.grad[1] == 0.0
    assert losses.unlikelihood_values(log_p, torch.log(1 - log_p.exp()), None)[1] > 0


@pytest.mark.parametrize(("form", "low", "high"), [("clamp", -5.0, -1.0), ("zero", 0.0, 0.0)])
def test_token_cut_offs(form, low, high):
    log_p = torch.tensor([-7.0, -3.0, -0.5], requires_grad=True)
    rejected, chosen = losses.cut_rejected(log_p, -5.0, form), losses.cut_chosen(log_p, 1.0, form)
    assert rejected.tolist() == [low, -3.0, -0.5]
    assert chosen.tolist() == [-7.0, -3.0, high]
    (rejected.sum() + 10 * chosen.sum()).backward()
    assert log_p.grad.tolist() == [10.0, 11.0, 1.0]
    assert losses.cut_chosen(log_p, 0.0, form).tolist() == log_p.tolist()
    assert losses.cut_rejected(log_p, None, form) is log_p and losses.cut_chosen(log_p, None, form) is log_p


def test_preference_losses():
    chosen, rejected = torch.tensor([0.3, -1.0]), torch.tensor([-0.2, 2.0])
    h = [0.5, -3.0]
    assert losses.ipo(chosen, rejected, 0.25).tolist() == pytest.approx([(x - 2.0) ** 2 for x in h])
    assert losses.dpo(chosen, rejected, 0.25).tolist() == pytest.approx([math.log(1 + math.exp(-x / 4)) for x in h])
    expected = [8 * math.log(1 + math.exp(r / 4)) for r in rejected.tolist()]
    assert losses.npo(rejected, 0.25).tolist() == pytest.approx(expected)


# --- objectives -----------------------------------------------------------------------------------------------------


def plain_scores(lm, ids, first, delta=None):
    """Log-probabilities of a sequence's tokens from ``first`` on, by the library's own forward pass without padding."""
    embeds = lm.get_input_embeddings()(torch.tensor([ids]))
    if delta is not None:
        embeds = torch.cat([embeds[:, : len(delta)] + delta, embeds[:, len(delta) :]], dim=1)
    log_p = functional.log_softmax(lm(inputs_embeds=embeds).logits[0], dim=-1)
    return torch.stack([log_p[column - 1, ids[column]] for column in range(first, len(ids))])


def deltas():
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(len(triple.prompt), 32, generator=rng) * 0.3 for triple in TRIPLES]


def oracle(lm):
    """Token log-probabilities of each triple's (toward, away), and of the conversation that has labels."""
    rows = []
    for triple, delta in zip(TRIPLES, deltas(), strict=True):
        rows.append(
            [
                plain_scores(lm, t.prompt + a, len(t.prompt), delta)
                for t, a in ((triple, triple.toward), (triple, triple.away))
            ]
        )
    return rows, plain_scores(lm, TALKS[0].ids, 2)


def evaluated(objective, lm, part=PART, under=None):
    sheet = pack_batch(sequences_of(part, objective.terms), 0, CPU)
    more = {"complement": True} if objective.complement else {}
    laid = scatter(deltas() if under is None else under, sheet)
    scores = ScoredLM(lm)(**sheet.asked, input_ids=sheet.input_ids, delta=laid, **more)
    return objective.sums(scores, sheet, part)


def test_unlikelihood_against_plain_forward_passes():
    lm = tiny_lm().eval()
    rows, talk = oracle(lm)
    toward = -torch.cat([row[0] for row in rows]).mean()
    away = torch.cat([row[1] for row in rows]).mean()
    utility = -talk.mean()
    settings = CAdvUL(kind="c_advul", toward_cutoff=None, away_cutoff=away.item() + 1)
    objective = Unlikelihood(settings)
    sums, counts = evaluated(objective, lm), objective.counts([*TRIPLES, *TALKS])
    assert counts == [5, 4, 2, 0]
    assert objective.means(sums.tolist(), counts) == pytest.approx([toward.item(), away.item(), utility.item(), None])
    c = away.item() + 1
    value = 0.5 * toward + 0.5 * (0.999 * c + 0.001 * away) + utility
    assert objective.total(sums.tolist(), counts) == pytest.approx(value.item(), rel=1e-6)
    slopes = objective.slopes(sums.tolist(), counts)
    assert slopes == [1.0, 0.001, 1.0, 1.0]
    weight = lm.lm_head.weight
    [got] = torch.autograd.grad(objective.loss(sums, counts, slopes), weight)
    [wanted] = torch.autograd.grad(value, weight)
    assert torch.allclose(got, wanted, atol=1e-6)


def test_the_r2d2_form_of_the_away_loss_against_plain_probabilities():
    lm = tiny_lm().eval()
    rows, _ = oracle(lm)
    p = torch.cat([row[1] for row in rows]).exp().double()
    objective = Unlikelihood(CAdvUL(kind="c_advul", away_loss="log_1_minus_p", away_cutoff=-6.0))
    wanted = torch.where(p.log() < -6.0, 0.0, -torch.log(1 - p)).sum()
    assert evaluated(objective, lm)[Term.AWAY].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert objective.cutoffs[Term.AWAY] is None


@pytest.mark.parametrize("loss", ["ipo", "dpo", "npo"])
@pytest.mark.parametrize("form", ["clamp", "zero"])
def test_preferences_against_plain_forward_passes(loss, form):
    lm = tiny_lm().eval()
    rows, _ = oracle(lm)
    known = {TRIPLES[0].key: (-1.0, -2.0), TRIPLES[1].key: (-3.0, -0.5)}
    settings = CAdvIPO(kind="c_advipo", loss=loss, away_cutoff=-6.0, toward_cutoff=5.0, cutoff_form=form)
    objective = Preference(settings, known)
    expected = []
    for (chosen, rejected), triple in zip(rows, TRIPLES, strict=True):
        low, high = (-6.0, -5.0) if form == "clamp" else (0.0, 0.0)
        rejected = torch.where(rejected < -6.0, low, rejected)
        chosen = torch.where(chosen > -5.0, high, chosen)
        reduce = torch.mean if loss == "ipo" else torch.sum
        g = (reduce(chosen).item() - known[triple.key][0], reduce(rejected).item() - known[triple.key][1])
        if loss == "ipo":
            expected.append((g[0] - g[1] - 2.0) ** 2)
        elif loss == "dpo":
            expected.append(math.log1p(math.exp(-0.25 * (g[0] - g[1]))))
        else:
            expected.append(8 * math.log1p(math.exp(0.25 * g[1])))
    sums, counts = evaluated(objective, lm), objective.counts([*TRIPLES, *TALKS])
    assert sums[3].item() == pytest.approx(sum(expected), rel=1e-4)
    assert counts == ([5, 4, 2, 2] if loss != "npo" else [0, 4, 2, 2])
    assert objective.total(sums.tolist(), counts) == pytest.approx(
        sum(expected) / 2 + objective.means(sums.tolist(), counts)[2], rel=1e-4
    )


@pytest.mark.parametrize("loss", ["ipo", "dpo"])
@pytest.mark.parametrize("form", ["clamp", "zero"])
def test_the_cut_offs_reach_the_reference_only_where_they_clamp(loss, form):
    lm = tiny_lm().eval()
    settings = CAdvIPO(kind="c_advipo", loss=loss, away_cutoff=-6.0, toward_cutoff=5.5, cutoff_form=form)
    found = references(ScoredLM(lm), TRIPLES, Preference(settings, {}), Group(0, 1, CPU), 0)
    reduce, cut = (torch.mean if loss == "ipo" else torch.sum), 0
    for triple in TRIPLES:
        chosen, rejected = (
            plain_scores(lm, triple.prompt + answer, len(triple.prompt)) for answer in (triple.toward, triple.away)
        )
        cut += int((chosen > -5.5).sum()) + int((rejected < -6.0).sum())
        if form == "clamp":
            chosen, rejected = chosen.clamp(max=-5.5), rejected.clamp(min=-6.0)
        wanted = (reduce(chosen).item(), reduce(rejected).item())
        assert found[triple.key] == pytest.approx(wanted, rel=1e-4)
    assert cut > 1, "no token is beyond a cut-off"


def test_parts_add_up_to_the_whole():
    lm = tiny_lm().eval()
    first, second = deltas()
    for objective in (
        Unlikelihood(CAdvUL(kind="c_advul")),
        Preference(CAdvIPO(kind="c_advipo"), {t.key: (-1.0, -2.0) for t in TRIPLES}),
    ):
        whole = evaluated(objective, lm)
        parts = [
            evaluated(objective, lm, Part((TRIPLES[0],)), [first]),
            evaluated(objective, lm, Part((TRIPLES[1],), TALKS), [second]),
            evaluated(objective, lm, Part(), []),
        ]
        assert torch.allclose(sum(parts), whole, rtol=1e-5)


def test_an_answer_of_no_weight_is_not_run():
    objective = Unlikelihood(CAdvUL(kind="c_advul", attack=None, away_weight=0.0))
    assert objective.answers == (Term.TOWARD,)
    sheet = pack_batch(sequences_of(PART, objective.terms), 0, CPU)
    assert [line.term for line in sheet.lines] == [Term.TOWARD, Term.TOWARD, Term.UTILITY]
    assert objective.counts([*TRIPLES, *TALKS]) == [5, 0, 2, 0]
    assert scatter([], sheet) is None
