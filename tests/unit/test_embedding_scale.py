"""Perturbations mean the same whatever a family multiplies its embeddings by, and an eps that does nothing is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures import classifier, language_model

from hardscale.attacks.perturb import embedding_factor, mean_embedding_norm, perturb
from hardscale.evaluation.attack_spec import eps_facts
from hardscale.settings.attacks import EmbeddingAttack
from hardscale.settings.perturbation import InnerAttack, Perturbation
from hardscale.training.continuous.history import History
from hardscale.training.continuous.rows import Triple
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.continuous.step import attack

PLAIN = ("gpt_neox", "llama", "qwen2", "qwen3", "mistral", "phi3")
GEMMAS = ("gemma", "gemma2", "gemma3_text")
#: Families that scale embeddings inside the module, or in the model's own forward, by how much a delta grows there.
SCALED = {"gemma": 32**0.5, "gemma2": 32**0.5, "gemma3_text": 32**0.5, "granite": 12.0}
TRIPLE = Triple((0, 0), tuple(range(5, 17)), (0, 12), (20, 21, 22), (30, 31))


def same_table(model: Any) -> Any:
    """The embedding table that every family gets, so that nothing but its own scaling is left to differ."""
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)) * 0.02)
    return model


def first_block_input(model: Any, **inputs: Any) -> torch.Tensor:
    """What the first transformer block reads."""
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 2)
    seen = []
    handle = layers[0].register_forward_pre_hook(
        lambda _, parts, more: seen.append(parts[0] if parts else more["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    return seen[0][0]


def shifts(kind: str, settings: InnerAttack) -> tuple[torch.Tensor, float]:
    """How far each prompt token moves at the first block, and the mean norm of the vocabulary there."""
    model = same_table(language_model(kind)).requires_grad_(False)
    embedding = model.get_input_embeddings()
    mean_norm, factor = mean_embedding_norm(embedding), embedding_factor(embedding)
    found = attack(ScoredLM(model), [TRIPLE], settings, mean_norm, 0, 0, factor)
    ids = torch.tensor([TRIPLE.prompt])
    clean = first_block_input(model, input_ids=ids)
    moved = first_block_input(model, inputs_embeds=embedding(ids) + found.deltas[0])
    vocabulary = first_block_input(model, input_ids=torch.arange(96)[None])
    return (moved - clean).norm(dim=-1), float(vocabulary.norm(dim=-1).mean())


@pytest.mark.parametrize("mode", ["absolute", "relative_norm", "relative_eps"])
def test_one_step_moves_the_first_block_by_the_same_share_of_eps_in_every_family(mode: str) -> None:
    """Before any projection: a projected vector has the length eps whatever went wrong."""
    settings = InnerAttack(steps=1, step_size=1e-4, step_size_mode=mode, eps=0.05)
    shares = {}
    for kind in (*PLAIN, *GEMMAS, "granite"):
        shift, scale = shifts(kind, settings)
        shares[kind] = float(shift.mean()) / (0.05 * scale)
    middle = shares["llama"]
    assert middle > 0
    assert shares == {kind: pytest.approx(middle, rel=0.01) for kind in shares}


@pytest.mark.parametrize("mode", ["absolute", "relative_norm"])
@pytest.mark.parametrize("kind", [*PLAIN, *GEMMAS])
def test_four_eps_give_four_perturbations_that_fill_their_balls_alike(kind: str, mode: str) -> None:
    """The published steps: 10 of 1e-4, balls of embedding norms; on Gemma none of them was ever reached."""
    norm = 0.02 * 32**0.5
    found = []
    for eps in (0.0005, 0.001, 0.002, 0.004):
        own = eps if mode == "relative_norm" else eps * norm
        shift, scale = shifts(kind, InnerAttack(steps=10, step_size=1e-4, eps=own, eps_mode=mode))
        unit = scale if mode == "relative_norm" else scale / norm
        found.append(float(shift.max()) / (own * unit))
        assert found[-1] == pytest.approx(1.0, rel=0.05)


def test_the_factor_is_that_of_the_module_alone() -> None:
    for kind in PLAIN:
        assert embedding_factor(language_model(kind).get_input_embeddings()) == 1.0
    for kind in GEMMAS:
        assert embedding_factor(language_model(kind).get_input_embeddings()) == pytest.approx(32**0.5)
        half = language_model(kind).get_input_embeddings().to(torch.bfloat16)
        assert embedding_factor(half) == pytest.approx(32**0.5, rel=0.01)
    # Multiplied in the model's forward, after a perturbation is added: the table's space already.
    assert embedding_factor(language_model("granite").get_input_embeddings()) == 1.0
    assert embedding_factor(classifier("gemma3_text").get_input_embeddings()) == pytest.approx(32**0.5)
    # A module that does more than scale has no factor.
    assert embedding_factor(_Shifted(10, 4)) == 1.0
    assert mean_embedding_norm(language_model("gemma").get_input_embeddings()) > 0


class _Shifted(torch.nn.Embedding):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return 3 * super().forward(ids) + 1


def test_a_unit_scales_absolute_sizes_alone() -> None:
    embeds = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 3, dtype=torch.bool)

    def delta(unit: float, **settings: Any) -> torch.Tensor:
        # A linear loss: its gradient is the same wherever the search stands.
        search = Perturbation(**settings)
        return perturb(lambda x: x.sum(dim=(1, 2)), embeds, mask, search, 3, 2.0, 0, unit=unit).delta

    absolute = {"step_size": 0.1, "eps": 0.3, "eps_mode": "absolute"}
    assert torch.allclose(delta(5.0, **absolute), 5 * delta(1.0, **absolute))
    relative = {"step_size": 0.1, "step_size_mode": "relative_norm", "eps": 0.3}
    assert torch.equal(delta(5.0, **relative), delta(1.0, **relative))
    of_eps = {"step_size": 0.1, "step_size_mode": "relative_eps", "eps": 0.3}
    assert torch.equal(delta(5.0, **of_eps), delta(1.0, **of_eps))


# --- an eps that does nothing -----------------------------------------------------------------------------------------


def facts_of(attack: InnerAttack | None, share: float | None) -> Any:
    row = {"attack_loss_first": 1.0, "attack_loss_last": 1.0, "mean_ratio": 0.5, "max_ratio": 0.5}
    return History(terms=[{**row, "projected_share": share}]).attack_facts(attack)["eps_unused"]


def test_a_training_says_whether_eps_had_a_part_in_it() -> None:
    assert facts_of(InnerAttack(), 0.0) is True
    assert facts_of(InnerAttack(), 0.01) is False
    assert facts_of(InnerAttack(step_size_mode="relative_eps"), 0.0) is False
    assert facts_of(InnerAttack(init="uniform_ball"), 0.0) is False
    assert facts_of(InnerAttack(eps=None), 0.0) is False
    assert facts_of(None, None) is None


def test_an_attack_at_test_says_it_too() -> None:
    def facts(share: float, **ball: Any) -> dict[str, Any]:
        settings = EmbeddingAttack(kind="embedding", perturbation=Perturbation(**ball))
        return eps_facts(settings, {"projected_share": share})

    assert facts(0.0, eps=0.1) == {"eps": 0.1, "eps_mode": "relative_norm", "eps_of": "own", "eps_unused": True}
    assert facts(0.2, eps=0.1)["eps_unused"] is False
    assert facts(0.0, eps=None)["eps_unused"] is False
    assert facts(0.0, eps=0.1, step_size=0.2, step_size_mode="relative_eps")["eps_unused"] is False
