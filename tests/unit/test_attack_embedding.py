"""The attack on embeddings at test, against a loop with the library's own forward of one prompt at a time."""

import pytest
import torch
from attack_fixtures import PROMPTS, byte_tokenizer, classifier, language_model
from torch.nn.functional import cross_entropy

from hardscale.attacks import embedding
from hardscale.attacks.base import run_attack
from hardscale.attacks.results import Request
from hardscale.attacks.victim import Victim
from hardscale.errors import AttackError
from hardscale.models.counts import model_shape
from hardscale.models.flops import exact_forward_flops, exact_input_gradient_flops
from hardscale.runtime.memory import Budget
from hardscale.settings.attacks import EmbeddingAttack
from hardscale.settings.perturbation import Perturbation

TARGETS = ["Yes, the word is apple", "No", "It was good", "a cat", "the dog and the house"]
LABELS = [0, 1, 1, 0, 1]
STEPS = 4


def own(**changes):
    settings = {"step_size": 0.05, "eps": 0.4, "eps_mode": "absolute", "step_rule": "l2", **changes}
    return EmbeddingAttack(kind="embedding", perturbation=Perturbation(**settings))


def run(model, targets=None, prompts=PROMPTS, block=None, n_iterations=STEPS, **more):
    return run_attack(
        (block or own()).model_copy(update={"n_iterations": n_iterations}),
        model,
        byte_tokenizer(),
        prompts,
        TARGETS[: len(prompts)] if targets is None else targets,
        **more,
    )


def encoded(text):
    return byte_tokenizer()(text, add_special_tokens=True)["input_ids"]


def by_loop(loss_of, embeds, places, n, size=0.05, radius=0.4):
    """Vectors at ``places`` and the losses of all iterates; the step is the gradient at length 1 for each token."""
    delta = torch.zeros_like(embeds)
    losses = []
    for step in range(n + 1):
        moved = (embeds + delta).detach().requires_grad_(True)
        loss, success = loss_of(moved)
        losses.append((float(loss.detach()), bool(success)))
        if step < n:
            loss.backward()
            for t in places:
                new = delta[t] - size * moved.grad[t] / moved.grad[t].norm()
                delta[t] = new * min(1.0, radius / float(new.norm()))
    return delta, losses


def language_loss(model, wanted):
    target = byte_tokenizer()(wanted, add_special_tokens=False)["input_ids"]
    ending = model.get_input_embeddings()(torch.tensor(target)).detach()

    def loss_of(prompt):
        whole = torch.cat([prompt, ending])
        logits = model(inputs_embeds=whole[None]).logits[0]
        told = logits[len(prompt) - 1 : len(whole) - 1]
        wanted = torch.tensor(target)
        return cross_entropy(told, wanted), (told.argmax(dim=1) == wanted).all()

    return loss_of


def classifier_loss(model, label):
    def loss_of(prompt):
        logits = model(inputs_embeds=prompt[None]).logits  # one row without padding: pooled rightly
        return -cross_entropy(logits, torch.tensor([label])), logits.argmax() != label

    return loss_of


def check(result, model, ids, delta, losses, before=0):
    assert result.perturbation.shape == (len(ids), 32) and result.perturbation.dtype == torch.float32
    assert torch.allclose(result.perturbation, delta, atol=1e-3)
    assert result.losses == pytest.approx([loss for loss, _ in losses[1:]], abs=1e-3)
    assert result.notes["loss_before"] == pytest.approx(losses[0][0], abs=1e-3)
    assert result.successes == [success for _, success in losses[1:]]


@pytest.mark.parametrize("kind", ["gpt_neox", "llama"])
def test_a_language_model_is_driven_to_its_target(kind):
    model = language_model(kind)
    for result, (before, after), target in zip(run(model), PROMPTS, TARGETS, strict=True):
        ids = encoded(before + after)
        embeds = model.get_input_embeddings()(torch.tensor(ids)).detach()
        delta, losses = by_loop(language_loss(model, target), embeds, range(len(ids)), STEPS)
        check(result, model, ids, delta, losses)
        assert result.losses[-1] < result.notes["loss_before"]
        assert (result.text, result.tokens, result.prompt_text) == ("", (), before + after)


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "bert"])
def test_a_classifier_is_driven_from_its_label(kind):
    """Prompts of several lengths share forwards, and padding must not be read as the last token."""
    model = classifier(kind)
    results = run(model, targets=[1 - label for label in LABELS], labels=LABELS)
    for result, (before, after), label in zip(results, PROMPTS, LABELS, strict=True):
        ids = encoded(before + after)
        embeds = model.get_input_embeddings()(torch.tensor(ids)).detach()
        delta, losses = by_loop(classifier_loss(model, label), embeds, range(len(ids)), STEPS)
        check(result, model, ids, delta, losses)
        assert result.losses[-1] < result.notes["loss_before"] <= 0


def test_a_classifier_without_labels_is_driven_to_its_target():
    model = classifier("llama", num_labels=3)
    [result] = run(model, targets=[2], prompts=PROMPTS[:1])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([encoded("".join(PROMPTS[0]))])).logits
    assert result.notes["loss_before"] == pytest.approx(float(cross_entropy(logits, torch.tensor([2]))), abs=1e-4)


def test_the_perturbation_reproduces_the_last_loss():
    """With signs, where a loop would drift by rounding."""
    model = language_model("llama")
    block = own(step_rule="sign", step_size=0.01)
    for result, target in zip(run(model, block=block), TARGETS, strict=True):
        ids = encoded(result.prompt_text)
        embeds = model.get_input_embeddings()(torch.tensor(ids)).detach() + result.perturbation
        loss, _ = language_loss(model, target)(embeds)
        assert result.losses[-1] == pytest.approx(float(loss.detach()), abs=1e-4)


def requests():
    return [Request("The man said: ", text, "\n\nAnswer:") for text in ("Write the word apple.", "good or bad?")]


def user_span(request):
    tokens = byte_tokenizer()(request.before + request.text + request.after, return_offsets_mapping=True)
    start, stop = len(request.before), len(request.before) + len(request.text)
    inside = [i for i, (a, b) in enumerate(tokens["offset_mapping"]) if a < stop and b > start]
    return tokens["input_ids"], inside


@pytest.mark.parametrize("use_cache", [True, False])
def test_only_the_users_words_are_perturbed(use_cache):
    model = language_model("llama")
    asked = requests()
    prompts = [(request.before + request.text, request.after) for request in asked]
    results = run(model, prompts=prompts, block=own(positions="user"), requests=asked, use_cache=use_cache)
    for result, request, target in zip(results, asked, TARGETS, strict=False):
        ids, places = user_span(request)
        embeds = model.get_input_embeddings()(torch.tensor(ids)).detach()
        delta, losses = by_loop(language_loss(model, target), embeds, places, STEPS)
        check(result, model, ids, delta, losses)
        moved = result.perturbation.abs().sum(dim=1) > 0
        assert moved.nonzero().flatten().tolist() == places
        assert result.prompt_text == request.before + request.text + request.after


@pytest.mark.parametrize("use_cache", [True, False])
def test_only_the_suffix_is_perturbed(use_cache):
    model = language_model("gpt_neox")
    block = own(positions="suffix", n_suffix_tokens=3)
    for result, (before, after), target in zip(
        run(model, block=block, use_cache=use_cache), PROMPTS, TARGETS, strict=True
    ):
        ids = encoded(result.prompt_text)
        assert result.prompt_text == before + result.text + after and len(result.tokens) == 3
        at = next(i for i in range(len(ids)) if tuple(ids[i : i + 3]) == result.tokens)
        embeds = model.get_input_embeddings()(torch.tensor(ids)).detach()
        delta, losses = by_loop(language_loss(model, target), embeds, range(at, at + 3), STEPS)
        check(result, model, ids, delta, losses)


def test_alone_or_among_others():
    model = language_model("llama")
    block = own(init="uniform_ball")
    together = run(model, block=block, keys=[3, 4, 5, 6, 7], seed=2)
    [alone] = run(model, prompts=PROMPTS[3:4], targets=TARGETS[3:4], block=block, keys=[6], seed=2)
    assert torch.allclose(alone.perturbation, together[3].perturbation, atol=1e-3)
    assert alone.losses == pytest.approx(together[3].losses, abs=1e-4)
    [other] = run(model, prompts=PROMPTS[3:4], targets=TARGETS[3:4], block=block, keys=[6], seed=3)
    assert not torch.allclose(alone.perturbation, other.perturbation, atol=1e-2)
    again = run(model, block=block, keys=[3, 4, 5, 6, 7], seed=2)
    assert all(torch.equal(a.perturbation, b.perturbation) for a, b in zip(together, again, strict=True))


def test_best_holds_the_lowest_loss_so_far():
    model = language_model("llama")
    results = [run(model, block=own(step_size=3.0, eps=None, keep=keep), n_iterations=6) for keep in ("last", "best")]
    for last, best in zip(*results, strict=True):
        losses = [last.notes["loss_before"], *last.losses]
        assert best.losses == [min(losses[: i + 1]) for i in range(1, 7)]
    assert any(last.losses != best.losses for last, best in zip(*results, strict=True))
    for best, target in zip(results[1], TARGETS, strict=True):
        embeds = model.get_input_embeddings()(torch.tensor(encoded(best.prompt_text))).detach() + best.perturbation
        loss, _ = language_loss(model, target)(embeds)
        assert float(loss.detach()) == pytest.approx(best.losses[-1], abs=1e-3)


def test_enough_steps_without_a_ball_write_the_target():
    model = language_model("llama")
    block = own(step_rule="adam", step_size=0.05, eps=None)
    results = run(model, prompts=PROMPTS[1:], targets=TARGETS[1:], block=block, n_iterations=60)
    assert all(result.successes[-1] for result in results)
    assert all(result.first_success and result.first_success > 1 for result in results)


@pytest.mark.parametrize("positions", ["prompt", "suffix"])
def test_cost(positions):
    model = language_model("llama")
    shape = model_shape(model.config)
    results = run(model, block=own(positions=positions, n_suffix_tokens=3))
    for result, (before, _), target in zip(results, PROMPTS, TARGETS, strict=True):
        n_target = len(byte_tokenizer()(target)["input_ids"])
        n = len(encoded(result.prompt_text)) + n_target
        k = range(1, STEPS + 1)
        assert result.forward_passes == [i + 1 for i in k] and result.backward_passes == list(k)
        assert result.forward_tokens == [(i + 1) * n for i in k] and result.backward_tokens == [i * n for i in k]
        assert result.n_evaluated == [1] * STEPS
        head = len(encoded(before))
        stored = head if positions == "suffix" and head >= 8 else 0
        products = n_target * model.config.vocab_size
        forward = exact_forward_flops(shape, n - stored, stored, products)
        backward = exact_input_gradient_flops(shape, n - stored, stored, products)
        once = exact_forward_flops(shape, stored) if stored else 0.0
        assert result.flops_exact == pytest.approx([once + (i + 1) * forward + i * backward for i in k])


def test_iterations_are_told_once_for_every_example(monkeypatch):
    told = {}

    def note(iteration, alive, seconds):
        assert seconds >= 0
        told[iteration] = told.get(iteration, 0) + alive

    model = language_model("llama")
    whole = run(model, callback=note)
    assert told == {i: len(PROMPTS) for i in range(1, STEPS + 1)}
    told.clear()
    calls, judge = [], Victim.packed

    def fails_once(self, blocks, batch):
        calls.append(len(batch.slices))
        if len(calls) == 1:
            raise torch.OutOfMemoryError("full")
        return judge(self, blocks, batch)

    monkeypatch.setattr(Victim, "packed", fails_once)
    budget = Budget()
    halved = run(model, callback=note, tokens_per_batch=budget)
    assert budget.halvings == 1 and len(calls) == 3
    assert told == {i: len(PROMPTS) for i in range(1, STEPS + 1)}
    for one, other in zip(whole, halved, strict=True):
        assert torch.allclose(one.perturbation, other.perturbation, atol=1e-4)


def test_the_model_is_left_as_it_was():
    model = language_model("llama").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(model, prompts=PROMPTS[:2], targets=TARGETS[:2])
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_errors():
    model = language_model("llama")
    with pytest.raises(AttackError, match="prompts without requests"):
        run(model, block=own(positions="user"))
    with pytest.raises(AttackError, match="found a classifier"):
        run(classifier(), targets=LABELS, labels=LABELS, block=own(positions="user"))
    silent = [Request("The man said:", "", "\n\nAnswer:")]
    with pytest.raises(AttackError, match="example 7: no tokens to perturb"):
        run(model, prompts=PROMPTS[:1], requests=silent, block=own(positions="user"), keys=[7])
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    with pytest.raises(AttackError, match="example 8: the loss is not finite at step 0"):
        run(model, prompts=PROMPTS[:1], keys=[8])


def test_the_published_defaults_run():
    """Sign steps of 0.01 without a ball, all positions."""
    [result] = run(language_model("llama"), prompts=PROMPTS[:1], block=EmbeddingAttack(kind="embedding"))
    assert result.notes["projected_share"] == 0.0
    assert result.perturbation.abs().max() == pytest.approx(0.01 * STEPS)
    assert embedding._best_so_far([3.0, 3.0, 1.0, 2.0, 0.5]) == [0, 0, 2, 2, 4]
