"""The attack in embedding space at test: vectors on prompt embeddings, an upper bound on what any text can reach.

A language model is driven towards its target text; a classifier away from the true label (its loss is then minus the
cross-entropy of that label). The words stay as they are, except that ``positions: suffix`` puts tokens of its own
between them. What was found comes back as the ``perturbation`` of each result, so that replies can be generated from
it. See section 3 of arXiv 2405.15589 and :mod:`hardscale.attacks.perturb`.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.call import Call
from hardscale.attacks.candidates import initial_layout
from hardscale.attacks.chat_only import chat_requests
from hardscale.attacks.classifier_victim import ClassifierVictim
from hardscale.attacks.packing import MicroBatch
from hardscale.attacks.perturb import Perturbed, embedding_factor, mean_embedding_norm, perturb
from hardscale.attacks.results import AttackResult, Record
from hardscale.attacks.starts import FIRST_TEXT, start_notes
from hardscale.attacks.victim import GRADIENT_SHARE, Inputs, Victim
from hardscale.errors import AttackError
from hardscale.models.flops import ModelShape
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.settings.attacks import EmbeddingAttack
from hardscale.settings.perturbation import Perturbation


@dataclass(frozen=True)
class _Prompt:
    """One tokenized prompt and the tokens of it that are perturbed, ``first`` to before ``stop``."""

    before: str
    text: str
    after: str
    ids: list[int]
    first: int
    stop: int
    notes: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Added tokens."""
        return tuple(self.ids[self.first : self.stop]) if self.text else ()


@dataclass(frozen=True)
class _Search:
    """What the search found for one example.

    Attributes:
        delta: shape ``(prompt tokens, hidden)``, on the CPU.
        losses: of all iterates.
        successes: of all iterates.
        notes: of the result.
    """

    delta: Tensor
    losses: list[float]
    successes: list[bool]
    notes: dict[str, float]


def run(settings: EmbeddingAttack, call: Call) -> list[AttackResult]:
    """Attack every prompt with ``n_iterations`` gradient steps; see :func:`hardscale.attacks.base.run_attack`.

    An iteration costs the gradient of one iterate and the loss of the next; the first one also the loss without attack.
    """
    victim, search = call.victim, settings.perturbation
    made = _prompts(call, search)
    for name, prompt in zip(victim.names, made, strict=True):
        if prompt.first >= prompt.stop:
            raise AttackError(f"example {name}: no tokens to perturb with positions {search.positions}; leave it out")
    victim.check_lengths([len(prompt.ids) for prompt in made])
    victim.remember([prompt.ids[: prompt.first] for prompt in made])
    seeds = [derive_seed(call.seed, "embedding", key) for key in call.keys]
    found = _search(call, made, seeds, search, settings.n_iterations)
    return [
        _result(victim, example, made[example], call.shape, found[example], search.keep == "best")
        for example in range(len(made))
    ]


# --- which tokens ---------------------------------------------------------------------------------------------------


def _prompts(call: Call, settings: Perturbation) -> list[_Prompt]:
    if settings.positions == "suffix":
        return _with_suffixes(call, settings.n_suffix_tokens)
    if settings.positions == "user":
        return _with_user_tokens(call)
    texts = [before + after for before, after in call.prompts]
    encoded = call.codec.encode_prompts(texts)
    return [_Prompt(text, "", "", ids, 0, len(ids)) for text, ids in zip(texts, encoded, strict=True)]


def _with_suffixes(call: Call, n_tokens: int) -> list[_Prompt]:
    """Prompts with added tokens, which alone are perturbed; they stand where any attack's text stands."""
    made = []
    for (before, after), key, name in zip(call.prompts, call.keys, call.victim.names, strict=True):
        rng = random.Random(derive_seed(call.seed, "initial", key))
        layout = initial_layout(call.codec, before, after, FIRST_TEXT, n_tokens, rng, name)
        ids = [*layout.head, *layout.attack, *layout.tail]
        made.append(
            _Prompt(before, layout.text, after, ids, len(layout.head), len(layout.head) + n_tokens, start_notes(layout))
        )
    return made


def _with_user_tokens(call: Call) -> list[_Prompt]:
    """Prompts of which the tokens that hold the user's words are perturbed."""
    model, requests = chat_requests("embedding (positions: user)", call)
    tokens, made = PromptTokens(model.tokenizer), []
    for request in requests:
        text = request.before + request.text + request.after
        ids, offsets = tokens.encode(text)
        start, stop = len(request.before), len(request.before) + len(request.text)
        inside = [i for i, (left, right) in enumerate(offsets) if max(left, start) < min(right, stop)]
        first, last = (inside[0], inside[-1] + 1) if inside else (0, 0)
        made.append(_Prompt(text, "", "", ids, first, last))
    return made


# --- the search -----------------------------------------------------------------------------------------------------


def _search(
    call: Call,
    prompts: Sequence[_Prompt],
    seeds: Sequence[int],
    settings: Perturbation,
    n_iterations: int,
) -> dict[int, _Search]:
    """The whole search of every example, micro-batch by micro-batch."""
    victim = call.victim
    endings = victim.endings_after(
        [(i, prompt.before + prompt.text + prompt.after) for i, prompt in enumerate(prompts)]
    )
    blocks = [
        victim.block(i, torch.tensor([prompt.ids]), ending)
        for i, (prompt, ending) in enumerate(zip(prompts, endings, strict=True))
    ]
    mean_norm, unit = mean_embedding_norm(victim.embedding), embedding_factor(victim.embedding)
    reached = [0] * len(prompts)

    def work(batch: MicroBatch) -> tuple[Inputs, Perturbed, list[Tensor]]:
        inputs = victim.packed(blocks, batch)
        column = torch.arange(inputs.ids.shape[1])
        spans = [(prompts[i].first - blocks[i].reused, prompts[i].stop - blocks[i].reused) for i in inputs.examples]
        first, stop = torch.tensor(spans).T
        mask = ((column >= first[:, None]) & (column < stop[:, None])).to(victim.device)
        successes: list[Tensor] = []
        began = time.monotonic()

        def losses_of(embeds: Tensor) -> Tensor:
            with victim.autocast():
                losses, fell = _judge(victim, inputs, embeds)
            successes.append(fell)
            return losses

        def note(step: int, losses: Tensor) -> None:  # noqa: ARG001
            nonlocal began
            fresh = [example for example in inputs.examples if reached[example] < step]
            if fresh:  # after memory ran out, steps are taken again
                call.note(step, len(fresh), time.monotonic() - began)
            for example in fresh:
                reached[example] = step
            began = time.monotonic()

        found = perturb(
            losses_of,
            victim.embed(inputs.ids),
            mask,
            settings,
            n_iterations,
            mean_norm,
            [seeds[example] for example in inputs.examples],
            note,
            names=[victim.names[example] for example in inputs.examples],
            unit=unit,
        )
        return inputs, found, successes

    made = {}
    for _, (inputs, found, successes) in victim.forwards(blocks, work, GRADIENT_SHARE):
        losses, fell, delta = found.losses.T.tolist(), torch.stack(successes).T.tolist(), found.delta.cpu()
        for row, example in enumerate(inputs.examples):
            reused, n = blocks[example].reused, len(prompts[example].ids)
            notes = {
                "projected_share": float(found.projected[row]),
                "max_ratio": float(found.largest[row]),
                "mean_ratio": float(found.mean[row]),
                "mean_embedding_norm": mean_norm,
                "embedding_factor": unit,
                "loss_before": losses[row][0],
            }
            whole = pad(delta[row, : n - reused], (0, 0, reused, 0))
            made[example] = _Search(whole.clone(), losses[row], fell[row], notes)
    return made


def _judge(victim: Victim, inputs: Inputs, embeds: Tensor) -> tuple[Tensor, Tensor]:
    """Loss to be minimized and success of each row: away from the label where one is known, else to the target."""
    if not isinstance(victim, ClassifierVictim) or victim.labels is None:
        return victim.judge(inputs, embeds)
    logits = victim.logits(inputs, embeds)
    labels = victim.labels[torch.tensor(inputs.examples, device=logits.device)]
    losses = -cross_entropy(logits, labels, reduction="none")
    # A logit of minus infinity can leave the loss finite.
    losses = torch.where(torch.isfinite(logits).all(dim=1), losses, float("nan"))
    return losses, logits.detach().argmax(dim=1) != labels


# --- results --------------------------------------------------------------------------------------------------------


def _result(
    victim: Victim, example: int, prompt: _Prompt, shape: ModelShape, found: _Search, keeps_best: bool
) -> AttackResult:
    counter = victim.flop_counter(example, shape)
    record = Record(prompt.before, prompt.after, counter)
    n_tokens = victim.n_forwarded(example, len(prompt.ids))
    iterates = _best_so_far(found.losses) if keeps_best else list(range(len(found.losses)))
    counter.forward(1, n_tokens)
    for at in iterates[1:]:
        counter.gradient(n_tokens, 0)
        record.close_iteration(prompt.text, prompt.tokens, found.losses[at], found.successes[at], 1)
    return dataclasses.replace(record.result(), perturbation=found.delta, notes={**found.notes, **prompt.notes})


def _best_so_far(losses: Sequence[float]) -> list[int]:
    """For each iterate the one with the lowest loss among it and all before; the earlier of equals."""
    best: list[int] = []
    for at, loss in enumerate(losses):
        best.append(at if not best or loss < losses[best[-1]] else best[-1])
    return best
