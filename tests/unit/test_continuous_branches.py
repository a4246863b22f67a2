"""Two answers behind one prompt in one row: the same numbers as two sequences, for less work."""

import pytest
import torch
from continuous_kit import make_inputs, spec
from train_kit import in_ranks
from transformers import AutoConfig, AutoModelForCausalLM

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.schemas import METRICS
from hardscale.artifacts.tables import read_table
from hardscale.models.flop_counter import FlopCounter, Length
from hardscale.models.flops import ModelShape, exact_forward_flops
from hardscale.training.continuous import scored_lm
from hardscale.training.continuous.packing import Term, pack_batch, scatter, sequences_of
from hardscale.training.continuous.rows import Conversation, Part, Triple
from hardscale.training.continuous.scored_lm import ScoredLM, visible
from hardscale.training.continuous.trainer import continuous
from hardscale.training.options import RunOptions

CPU = torch.device("cpu")
PART = Part(
    (
        Triple((0, 0), (5, 6, 7), (0, 3), (11, 12, 13), (20, 21)),
        Triple((1, 2), (8, 9, 10, 40, 41), (1, 3), (14,), (22, 23, 24)),
        Triple((2, 0), (5, 6, 7), (0, 3), (31, 32), (33,)),  # the prompt of another triple, which has its own vectors
    ),
    (Conversation(0, (1, 2, 3, 4), 2),),
)


def sheet_of(share, terms=tuple(Term)):
    return pack_batch(sequences_of(PART, terms), 0, CPU, share=share)


def test_the_layout():
    sheet = sheet_of(True)
    assert sheet.row_of == [0, 0, 1, 1, 2, 2, 3]
    assert sheet.input_ids.tolist() == [
        [5, 6, 7, 20, 11, 12, 0],
        [8, 9, 10, 40, 41, 22, 23],
        [5, 6, 7, 31, 0, 0, 0],
        [1, 2, 3, 0, 0, 0, 0],
    ]
    assert sheet.attention_mask.sum(dim=1).tolist() == [6, 7, 4, 3]
    assert sheet.branches.tolist() == [
        [1, 1, 1, 2, 3, 3, 0],
        [1, 1, 1, 1, 1, 2, 2],
        [1, 1, 1, 3, 0, 0, 0],
        [1, 1, 2, 0, 0, 0, 0],
    ]
    apart = sheet_of(False)
    assert apart.branches is None and apart.row_of == list(range(7))
    for name in ("sequences", "wanted"):
        assert torch.equal(getattr(sheet, name), getattr(apart, name))
    # Each is predicted from the token before it in its own sequence.
    before = [line.ids[c - 1] for line in sheet.lines for c in range(line.first_label, len(line.ids))]
    assert sheet.input_ids[sheet.rows, sheet.columns].tolist() == before
    assert apart.input_ids[apart.rows, apart.columns].tolist() == before
    sizes = ((5, 2), (6, 3, 3), (8, 3), (6, 1, 5), (4, 1), (5, 2, 3), (4, 2))
    assert sheet.lengths == [Length(*size) for size in sizes]
    assert sheet_of(True, (Term.AWAY, Term.UTILITY)).branches is None
    laid = scatter([torch.full((len(triple.prompt), 2), float(i + 1)) for i, triple in enumerate(PART.triples)], sheet)
    assert laid[..., 0].tolist() == [
        [1, 1, 1, 0, 0, 0, 0],
        [2, 2, 2, 2, 2, 0, 0],
        [3, 3, 3, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


def test_what_a_token_reads():
    branches = [1, 1, 2, 2, 3, 0]
    expected = [[j <= i and branches[j] in (1, branches[i]) for j in range(6)] for i in range(6)]
    assert visible(torch.tensor([branches])).tolist() == [expected]


def tiny(kind, attention="sdpa", **changes):
    names = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0}
    if kind == "gpt2":
        names, more = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}, {"n_positions": 64}
    else:
        more |= {} if kind == "gpt_neox" else {"num_key_value_heads": 2}
    config = AutoConfig.for_model(kind, **names, **more, **changes)
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():  # far enough from uniform answers that a token read or not makes a difference
        for weight in lm.parameters():
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    return lm


def scored(lm, share):
    """Log-probabilities under perturbed prompts, and the gradients of a sum that weighs each answer differently."""
    sheet, rng = sheet_of(share), torch.Generator().manual_seed(1)
    deltas = [torch.randn(len(triple.prompt), 32, generator=rng) * 0.3 for triple in PART.triples]
    lm.zero_grad()
    log_p = ScoredLM(lm)(**sheet.asked, input_ids=sheet.input_ids, delta=scatter(deltas, sheet))
    (log_p * torch.arange(1.0, len(log_p) + 1)).sum().backward()
    return log_p.detach(), [p.grad.clone() for p in lm.parameters() if p.grad is not None]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", sorted(scored_lm._BRANCHING))
def test_sequences_in_one_row_score_as_on_their_own(kind, attention):
    lm = tiny(kind, attention)
    assert ScoredLM(lm).takes_branches(64)
    (shared, mine), (apart, theirs) = scored(lm, True), scored(lm, False)
    assert apart.std() > 0.05
    assert torch.allclose(shared, apart, atol=2e-5)
    for a, b in zip(mine, theirs, strict=True):
        assert (a - b).norm() <= 1e-4 * max(float(b.norm()), 1e-3)


def test_where_rows_are_not_shared():
    assert not ScoredLM(tiny("opt")).takes_branches(8)  # counts its positions from the mask
    windowed = ScoredLM(tiny("mistral", sliding_window=16))
    assert windowed.takes_branches(16) and not windowed.takes_branches(17)
    assert not ScoredLM(tiny("llama", "flex_attention")).takes_branches(8)


def test_the_work_of_a_shared_row_is_that_of_its_tokens():
    shape = ModelShape(2, 8, 16, 2, 2, 50, False, n_body_params=1_000)
    sheet = sheet_of(True, (Term.TOWARD, Term.AWAY))
    pairs = int((visible(sheet.branches) & (sheet.branches > 0)[:, :, None]).sum())
    n_read, n_labels = int((sheet.branches > 0).sum()), sum(line.n_labels for line in sheet.lines)
    by_hand = 2 * 1_000 * n_read + 4 * 8 * 2 * pairs + 2 * 8 * 50 * n_labels
    found = FlopCounter(shape, trains_all=True, reads_last=False).attack(sheet.lengths, 1, 0)
    assert found.flops_exact == by_hand
    assert found.values()[:3] == [6, 0, sum(len(line.ids) for line in sheet.lines)]  # passes and tokens as published
    assert exact_forward_flops(shape, 3, 4) < exact_forward_flops(shape, 7)


def counted(group, settings, made, root):
    """Rows that went through the model in a whole training."""
    n, plain = [0], ScoredLM._logits

    def counting(self, embeds, *more):
        n[0] += len(embeds)
        return plain(self, embeds, *more)

    ScoredLM._logits = counting
    continuous(settings, *made, root / "state", root / "out", group, RunOptions())
    return n[0]


@pytest.mark.parametrize("kind", ["c_advul", "c_advipo"])
def test_training_is_the_same_with_fewer_rows(tmp_path, kind):
    made, facts, metrics, rows = make_inputs(tmp_path / "inputs"), {}, {}, {}
    for share in (True, False):
        root = tmp_path / str(share)
        [rows[share]] = in_ranks(counted, spec(kind, share_prompts=share), made, root)
        facts[share] = open_artifact(root / "out", "model")["facts"]
        metrics[share] = read_table(root / "out" / "metrics.parquet", METRICS).to_pylist()
    n_adversarial = {"c_advul": 3, "c_advipo": 6}[kind] * 4
    assert rows[False] - rows[True] == n_adversarial
    for name in ("n_forward_passes", "n_backward_passes"):
        assert facts[True][name] == facts[False][name]
    exact = [facts[share]["defense_flops_exact"] for share in (True, False)]
    assert 0 < exact[0] < exact[1]
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in metrics[True]] == pytest.approx([row[name] for row in metrics[False]], rel=2e-4)
