"""Losses, gradients and replies of every architecture that transformers builds, against plain forwards of one prompt.

A family is computed right or refused by its name. A few families run in the quick suite, all of them in the long one.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import architectures
import pytest
import torch
from architectures import CAUSAL, CLASSIFIERS, ENCODERS, plain
from torch.nn.functional import cross_entropy

from hardscale.attacks.classifier_victim import ClassifierVictim
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.attacks.prefix_cache import CACHED_FAMILIES, PrefixCache
from hardscale.attacks.victim import Victim
from hardscale.errors import AttackError, HardscaleError, ModelError, TrainingError
from hardscale.models.generate import reply
from hardscale.models.outputs import HEAD_FAMILIES, SCORE_FAMILIES, same_losses
from hardscale.models.parameters import frozen
from hardscale.training.continuous.scored_lm import ScoredLM

QUICK_CAUSAL = ("gpt_neox", "gemma2", "granite", "bloom", "mamba")
QUICK_CLASSIFIERS = ("gpt_neox", "gemma3_text", "bert", "roberta", "gpt2")
LENGTHS = (9, 14, 11, 20)
TARGETS = [[7, 8], [9], [30, 31, 32], [40, 41]]
LABELS = [0, 1, 1, 0]
END = 2


def cases(kinds: list[str], quick: tuple[str, ...]) -> list[Any]:
    return [pytest.param(kind, marks=() if kind in quick else pytest.mark.long) for kind in kinds]


def prompts() -> list[list[int]]:
    """Ordinary tokens; the end of text closes each, which pooled encoder-decoders look for."""
    rng = random.Random(3)
    return [[rng.randrange(5, 90) for _ in range(n - 1)] + [END] for n in LENGTHS]


def built(make: Any, kind: str) -> Any:
    try:
        return make(kind)
    except LookupError as error:
        pytest.skip(f"not built tiny: {error}")


class Ids:
    """A tokenizer of nothing: targets are given as tokens, replies come back as tokens."""

    pad_token_id, eos_token_id = 0, None

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [5]}

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


def compare(victim: Victim, oracle: Any, losses_of: Any) -> str:
    """Losses and gradients of a victim with the oracle's; where it refuses gradients, the reason."""
    asked = prompts()
    with frozen(victim.model):
        victim.remember([ids[:8] for ids in asked])
        blocks = [victim.block(i, torch.tensor([ids])) for i, ids in enumerate(asked)]
        scores = victim.score(blocks)
        wanted = []
        for i, ids in enumerate(asked):
            leaves: list[torch.Tensor] = []
            # Its states, which are kept unless it is told otherwise, are written in place.
            more = {"use_cache": False} if oracle.config.model_type == "rwkv" else {}
            loss = losses_of(i, plain(oracle, [*ids, *victim.endings[i]], leaves, **more))
            wanted.append((loss, leaves))
        for score, (loss, _) in zip(scores, wanted, strict=True):
            assert abs(float(score.losses) - float(loss.detach())) <= 1e-4 * max(1.0, float(loss.detach()))
        try:
            _, gradients = victim.gradient(blocks)
        except ModelError as error:
            assert "embedding module" in str(error)
            return str(error)
    for block, gradient, (loss, leaves) in zip(blocks, gradients, wanted, strict=True):
        [leaf] = leaves
        [expected] = torch.autograd.grad(loss, leaf)
        rest = expected[0, block.reused :]
        assert float((gradient - rest).norm()) <= 1e-3 * float(rest.norm()) + 1e-7
    return ""


@pytest.mark.parametrize("kind", cases(CAUSAL, QUICK_CAUSAL))
def test_losses_of_language_models_are_those_of_a_plain_forward(kind: str) -> None:
    model, oracle = built(architectures.language_model, kind), architectures.language_model(kind)
    try:
        victim = LanguageVictim(model, Ids(), ["x"] * 4, list("0123"))
        victim.endings = TARGETS
        compare(
            victim,
            oracle,
            lambda i, logits: cross_entropy(logits[-len(TARGETS[i]) - 1 : -1], torch.tensor(TARGETS[i])),
        )
    except AttackError as error:
        must_name(error, model)
        assert kind not in HEAD_FAMILIES
    else:
        assert victim.in_parts == (model.config.model_type in HEAD_FAMILIES)
        assert victim.can_cache == (model.config.model_type in CACHED_FAMILIES)


@pytest.mark.parametrize("kind", cases(CLASSIFIERS, QUICK_CLASSIFIERS))
def test_losses_of_classifiers_are_those_of_a_plain_forward(kind: str) -> None:
    model, oracle = built(architectures.classifier, kind), architectures.classifier(kind)
    try:
        victim = ClassifierVictim(model, LABELS, None, list("0123"))
        compare(victim, oracle, lambda i, logits: cross_entropy(logits[None], torch.tensor(LABELS[i : i + 1])))
    except AttackError as error:
        must_name(error, model)
        assert kind not in SCORE_FAMILIES
    else:
        assert victim.in_parts == (model.config.model_type in SCORE_FAMILIES)


@pytest.mark.parametrize("kind", cases(CAUSAL, QUICK_CAUSAL))
def test_trained_log_probabilities_are_those_of_a_plain_forward(kind: str) -> None:
    """Of a padded batch, under a perturbation, as a training step asks for them."""
    model, oracle = built(architectures.language_model, kind), architectures.language_model(kind)
    asked = prompts()
    module = ScoredLM(model)
    try:
        with torch.no_grad():
            module.check(asked[-1], 0)
            width = max(map(len, asked))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in asked])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in asked])
            shape = module.embed(ids).shape
            delta = 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(1)) * mask[..., None]
            places = [(i, c) for i, row in enumerate(asked) for c in range(4, len(row) - 1)]
            rows, columns = torch.tensor(places).T
            found = module(mask, rows, columns, ids[rows, columns + 1], input_ids=ids, delta=delta)
            wanted = torch.cat([shifted(oracle, row, delta[i, : len(row)]) for i, row in enumerate(asked)])
    except HardscaleError as error:
        assert kind not in HEAD_FAMILIES and (isinstance(error, ModelError) or type(model).__name__ in str(error))
        return
    assert bool(((found - wanted).abs() <= 1e-4 * wanted.abs().clamp(min=1)).all())


def shifted(model: Any, row: list[int], delta: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens 5 and on, with something added to what the embedding module returns."""
    handle = model.get_input_embeddings().register_forward_hook(lambda *parts: parts[2] + delta)
    try:
        logits = plain(model, row)
    finally:
        handle.remove()
    return -cross_entropy(logits[4:-1], torch.tensor(row[5:]), reduction="none")


@pytest.mark.parametrize("kind", cases(CAUSAL, QUICK_CAUSAL))
def test_replies_are_those_of_plain_forwards(kind: str) -> None:
    model, oracle = built(architectures.language_model, kind), architectures.language_model(kind)
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    asked = [row[:-1] for row in prompts()]
    try:
        found = reply(model, Ids(), asked, 6)
    except ModelError as error:
        must_name(error, model)
        assert kind not in HEAD_FAMILIES
        return
    for row, text in zip(asked, found, strict=True):
        written = [int(token) for token in text.split()]
        with torch.no_grad():
            logits = plain(oracle, row + written)[len(row) - 1 : -1]
        assert len(written) == 6
        # The first choice, or one that is as good as it.
        best, own = logits.amax(dim=1), logits[torch.arange(6), torch.tensor(written)]
        assert bool((best - own <= 1e-4 * best.abs().clamp(min=1)).all())


def must_name(error: Exception, model: Any) -> None:
    assert type(model).__name__ in str(error) and "\n" not in str(error)


def test_encoders_are_no_language_models() -> None:
    for kind in ENCODERS[:3]:
        model = architectures.language_model(kind, is_decoder=False)
        victim = LanguageVictim(model, Ids(), ["x"], ["0"])
        with pytest.raises(AttackError, match="does not write from left to right"):
            victim.score([victim.block(0, torch.tensor([prompts()[0]]))])


@pytest.mark.long
def test_enough_families_are_built() -> None:
    def n_built(make: Any, kinds: list[str]) -> int:
        n = 0
        for kind in kinds:
            try:
                make(kind)
            except LookupError:
                continue
            n += 1
        return n

    assert n_built(architectures.language_model, CAUSAL) >= 150
    assert n_built(architectures.classifier, CLASSIFIERS) >= 100
    assert set(CAUSAL) > HEAD_FAMILIES and set(CLASSIFIERS) > SCORE_FAMILIES


# --- the self-check itself ------------------------------------------------------------------------------------------


def test_logits_that_a_known_family_changes_are_seen_and_the_model_is_called_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a version of the library might: the list of families says nothing of it."""
    model = architectures.language_model("llama")
    forward = model.forward

    def squashed(*parts: Any, **more: Any) -> Any:
        output = forward(*parts, **more)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    model.forward = squashed
    victim = LanguageVictim(model, Ids(), ["x"] * 4, list("0123"))
    victim.endings = TARGETS
    assert victim.in_parts and victim.can_cache
    compare(victim, model, lambda i, logits: cross_entropy(logits[-len(TARGETS[i]) - 1 : -1], torch.tensor(TARGETS[i])))
    assert not victim.in_parts and not victim.can_cache
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("note: LlamaForCausalLM (llama): parts of its forward are not")


def test_a_training_sees_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    model = architectures.language_model("llama")
    module = ScoredLM(model)
    forward = model.forward
    model.forward = lambda *parts, **more: SimpleNamespace(logits=2 * forward(*parts, **more).logits)
    module.check(prompts()[-1], 0)
    assert capsys.readouterr().err.startswith("note: LlamaForCausalLM (llama): its head's rows")
    model.forward = lambda input_ids, **more: SimpleNamespace(
        logits=(input_ids == 0).sum() + forward(input_ids=input_ids, **more).logits * (input_ids == 0).any()
    )
    with pytest.raises(TrainingError, match="padded batch"):
        ScoredLM(model).check(prompts()[-1], 0)


def test_a_prefix_that_does_not_stand_for_its_tokens_is_not_stored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = architectures.language_model("llama")
    store = PrefixCache.store

    def turned(self: Any, example: int, prefix: Any, cache: Any, row: int) -> None:
        store(self, example, prefix, cache, row)
        self._stored[example] = 1.5 * self._stored[example]

    monkeypatch.setattr(PrefixCache, "store", turned)
    victim = LanguageVictim(model, Ids(), ["x"] * 4, list("0123"))
    victim.endings = TARGETS
    compare(victim, model, lambda i, logits: cross_entropy(logits[-len(TARGETS[i]) - 1 : -1], torch.tensor(TARGETS[i])))
    assert not victim.can_cache and not any(victim.cache.prefixes) and victim.in_parts
    assert "none are stored" in capsys.readouterr().err


def test_what_counts_as_rounding() -> None:
    """Each token in float32; in a coarser type the mean, by which a wrong family still stands out."""
    fine, coarse = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1).bfloat16()
    losses = torch.tensor([0.5, 4.0, 2.0, 0.1, 8.0, 1.0, 3.0, 0.2])
    noise = torch.tensor([0.07, -0.12, 0.05, -0.03, 0.1, 0.02, -0.09, 0.01])
    assert same_losses(losses + 9e-5, losses, fine) and not same_losses(losses + noise / 100, losses, fine)
    assert same_losses(losses + noise, losses, coarse) and not same_losses(losses * 1.06, losses, coarse)
    assert same_losses(losses + noise, losses, fine, torch.bfloat16)
    # Rows are looked at one by one; the fewer the tokens, the more one of them may be off.
    rows = torch.stack([losses, losses])
    assert not same_losses(rows + torch.tensor([[0.2], [-0.2]]), rows, coarse)
    assert same_losses(losses[:1] + 0.07, losses[:1], coarse) and not same_losses(losses[:1] + 0.2, losses[:1], coarse)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite"])
def test_the_check_of_bfloat16_passes_what_is_right(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = architectures.language_model(kind).bfloat16()
    victim = LanguageVictim(model, Ids(), ["x"] * 4, list("0123"))
    victim.endings = TARGETS
    victim.remember([ids[:8] for ids in prompts()])
    victim.score([victim.block(i, torch.tensor([ids])) for i, ids in enumerate(prompts())])
    ScoredLM(model).check(prompts()[-1], 0)
    reply(model, Ids(), [ids[:-1] for ids in prompts()], 6)
    assert "note" not in capsys.readouterr().err
