"""Next tokens drawn from a language model, for searches that keep to what it would write itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from hardscale.attacks.classifier_victim import ClassifierVictim
from hardscale.attacks.codec import Codec
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.attacks.packing import RowBlock
from hardscale.attacks.results import Helper
from hardscale.attacks.victim import Victim
from hardscale.errors import AttackError
from hardscale.models.counts import classifier_parameters, generative_parameters, model_shape
from hardscale.models.flop_counter import FlopCounter
from hardscale.models.flops import exact_forward_flops
from hardscale.models.parameters import frozen


@dataclass(frozen=True)
class SamplingRequest:
    """Next tokens wanted of one example.

    Attributes:
        example: its index.
        contexts: tokens so far, shape ``(rows, length)``; all rows begin with the example's stored prefix.
        n: tokens wanted after each row, all different.
        seeds: one a row.
    """

    example: int
    contexts: torch.Tensor
    n: int
    seeds: Sequence[int]


class Sampler:
    """A language model that proposes tokens: the victim itself, or another one with the same tokens.

    Args:
        victim: the model under attack.
        codec: of its tokenizer; only tokens that it allows are drawn.
        helpers: ``sampler`` is used where it is given.
        top_p: only the likeliest tokens that together have this probability are drawn.

    Raises:
        AttackError: a classifier without a sampler, or a sampler with other tokens.
    """

    def __init__(self, victim: Victim, codec: Codec, helpers: Mapping[str, Helper], top_p: float) -> None:
        self._allowed = torch.tensor(codec.allowed)
        self._top_p = top_p
        helper = helpers.get("sampler")
        if helper is None:
            if not isinstance(victim, LanguageVictim):
                raise AttackError("sampler: a classifier cannot propose tokens; name a language model of its family")
            self._model, self._frozen = victim, None
        else:
            if not codec.same_tokens(helper.tokenizer):
                raise AttackError(
                    "sampler: its tokenizer gives other ids than the victim's; name a language model of the same family"
                )
            options = {"tokens_per_batch": victim.budget, "dtype": victim.dtype, "use_cache": victim.can_cache}
            self._model = LanguageVictim(helper.model, helper.tokenizer, None, victim.names, **options)
            self._frozen = helper.model
            if self._model.n_embeddings <= codec.allowed[-1]:
                raise AttackError(
                    f"sampler: has {self._model.n_embeddings} tokens, the victim {codec.allowed[-1] + 1}; name a "
                    "language model of the same family"
                )
        self._shape = model_shape(self._model.model.config)
        same = self._model is victim
        self._ratio = 1.0 if same else _parameters(self._model) / _parameters(victim)

    def remember(self, heads: Sequence[Sequence[int]]) -> None:
        """Compute the prefixes, one an example, that contexts begin with; the victim's own are stored by the victim."""
        if self._frozen is not None:
            with frozen(self._frozen):
                self._model.remember(heads)

    def pay_prefix(self, example: int, counter: FlopCounter) -> None:
        """Count an example's stored prefix."""
        n_stored = len(self._model.cache.prefixes[example])
        if self._frozen is not None and n_stored:
            counter.elsewhere(0.0, 0, exact_forward_flops(self._shape, n_stored))

    def pay(self, request: SamplingRequest, counter: FlopCounter) -> int:
        """Count the forwards of a request; returns the sampler's tokens by the convention.

        Tokens count by the ratio of the sampler's parameters to the victim's; the exact count is the sampler's own.
        """
        rows, length = request.contexts.shape
        reused = self._reused(request)
        each = exact_forward_flops(self._shape, length - reused, reused, self._model.n_embeddings)
        counter.elsewhere(self._ratio * rows * length, rows, rows * each)
        return rows * length

    def propose(self, requests: Sequence[SamplingRequest]) -> list[list[list[int]]]:
        """Tokens that may come next, for every row of every request, likeliest draws first.

        Raises:
            AttackError: a context too long for the sampler, or logits that are not numbers.
        """
        blocks = []
        for request in requests:
            if not request.contexts.shape[1]:
                name = self._model.names[request.example]
                raise AttackError(f"example {name}: no token stands before the attack text; choose position suffix")
            self._model.check_length(request.example, request.contexts.shape[1])
            blocks.append(RowBlock(request.example, request.contexts, self._reused(request)))
        found: list[list[list[int]]] = [[[] for _ in request.seeds] for request in requests]
        with frozen(self._model.model):
            for block, row, logits in self._model.next_logits(blocks):
                request = requests[block]
                generator = torch.Generator().manual_seed(request.seeds[row])
                chosen = draw(logits[self._allowed], request.n, self._top_p, generator)
                found[block][row] = self._allowed[chosen].tolist()
        return found

    def _reused(self, request: SamplingRequest) -> int:
        return self._model.cache.reusable(request.example, request.contexts[0].tolist())


def draw(logits: torch.Tensor, n: int, top_p: float, generator: torch.Generator) -> torch.Tensor:
    """Indices drawn one after another without replacement, each with its softmax probability among those left.

    Gumbel's trick: the ``n`` largest of ``logits + g`` with independent standard Gumbel noise ``g``.

    Args:
        logits: shape ``(choices,)``.
        n: wanted; fewer where fewer have a probability.
        top_p: the smallest set of likeliest choices with at least this probability is drawn from.
        generator: on the CPU.
    """
    scores = logits.double().log_softmax(dim=0)
    if top_p < 1.0:
        ordered = scores.sort(descending=True, stable=True)
        beyond = ordered.values.exp().cumsum(0) - ordered.values.exp() >= top_p
        scores[ordered.indices[beyond]] = -torch.inf
    uniform = torch.rand(len(scores), generator=generator, dtype=torch.float64)
    noisy = scores - uniform.log().neg().log()
    n = min(n, int(torch.isfinite(scores).sum()))
    return noisy.topk(n).indices


def _parameters(victim: Victim) -> int:
    """N of the convention: all parameters of a classifier, those of a language model without an untied unembedding."""
    config = victim.model.config
    if isinstance(victim, ClassifierVictim):
        return classifier_parameters(config, int(config.num_labels))
    return generative_parameters(config)
