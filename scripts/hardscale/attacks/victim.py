"""A model under attack: losses and gradients of many prompts at once, whatever the kind of model.

Victims touch the bare module only (never a training engine's own ``forward``), with frozen parameters.
"""

from __future__ import annotations

import contextlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from transformers.cache_utils import DynamicCache

from hardscale.attacks.packing import MicroBatch, RowBlock, halves, micro_batches
from hardscale.attacks.prefix_cache import PrefixCache, can_reuse_prefixes
from hardscale.attacks.self_check import SelfCheck
from hardscale.errors import AttackError
from hardscale.models.flop_counter import FlopCounter
from hardscale.models.flops import ModelShape
from hardscale.models.outputs import NO_PLACE, body_of, embeddings_as, failure, name_of
from hardscale.models.parameters import frozen
from hardscale.models.window import window
from hardscale.runtime import pulse
from hardscale.runtime.memory import Budget, is_out_of_memory

_T = TypeVar("_T")

#: Computed tokens of one forward. On a CPU larger ones leave the processor's cache and are slower.
CPU_TOKENS, CUDA_TOKENS = 4_096, 65_536
#: A gradient pass keeps activations, so it takes fewer tokens at a time.
GRADIENT_SHARE = 4
#: Prefixes below this many tokens are computed again each time: storing them saves less than reading them costs.
SHORTEST_STORED = 8


def _embedding_of(model: Any) -> Any:
    """The module that embeds tokens.

    Raises:
        AttackError: the architecture has none.
    """
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:
        embedding = None
    if not isinstance(getattr(embedding, "weight", None), torch.Tensor):
        raise AttackError(f"{name_of(model)}: it has no table of token embeddings; use another architecture")
    return embedding


@dataclass(frozen=True)
class Scores:
    """Loss of each row of a block, float32, and whether the row is a success; both on the CPU, shape ``(n,)``."""

    losses: torch.Tensor
    successes: torch.Tensor


@dataclass
class Inputs:
    """One packed forward: right-padded tokens that are to be computed, after stored prefixes of several lengths.

    Attributes:
        ids: shape ``(rows, width)``.
        examples: the example of each row.
        lengths: real tokens of each row.
        arguments: mask, positions and cache for the base model.
        n_endings: last tokens of each row that are its target text.
    """

    ids: torch.Tensor
    examples: list[int]
    lengths: torch.Tensor
    arguments: dict[str, Any]
    n_endings: Sequence[int] = ()

    @property
    def last(self) -> torch.Tensor:
        """Index of each row's last real token, shape ``(rows,)``."""
        return self.lengths - 1


class Victim(ABC):
    """Losses, successes and gradients of prompts, batched over examples.

    Args:
        model: a Hugging Face model with its head.
        names: what each example is called in errors.
        tokens_per_batch: computed tokens of one forward; by device when None.
        dtype: run forwards under autocast to this type; None leaves the model's own.
        use_cache: reuse stored prefixes where the architecture allows it.
    """

    #: Whether the tokenizer's closing special tokens belong to a prompt of this victim.
    closing = True

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        tokens_per_batch: int | Budget | None = None,
        dtype: torch.dtype | None = None,
        use_cache: bool = True,
    ) -> None:
        self.model = model
        self.base = body_of(model)
        self.embedding = _embedding_of(model)
        self.device = self.embedding.weight.device
        self.n_embeddings = int(model.config.get_text_config().vocab_size)
        self.names = list(names)
        #: Tokens of each example's target text, where that is what is attacked for, as they follow its first prompt.
        self.endings: list[list[int]] = [[] for _ in names]
        #: Outputs of the head that each example's prompt needs, for the exact count of operations.
        self.head_products: list[int] = [0 for _ in names]
        self.dtype = dtype
        self.budget = tokens_per_batch if isinstance(tokens_per_batch, Budget) else Budget(tokens_per_batch)
        self.budget.tokens = self.budget.tokens or (CUDA_TOKENS if self.device.type == "cuda" else CPU_TOKENS)
        self.can_cache = use_cache and self.base is not model and can_reuse_prefixes(self.base)
        self.cache = PrefixCache(len(names))
        self._accepted = set(inspect.signature(self.base.forward).parameters)
        self._model_accepts = set(inspect.signature(model.forward).parameters)
        self._check = SelfCheck(self)
        pad = getattr(model.config, "pad_token_id", None)
        self._pad = pad if isinstance(pad, int) and pad >= 0 else 0

    # --- what kinds of victim differ in -----------------------------------------------------------------------------

    @abstractmethod
    def judge(self, inputs: Inputs, embeds: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss (differentiable, float32) and success of each row, shape ``(rows,)``."""

    @property
    @abstractmethod
    def in_parts(self) -> bool:
        """Whether outputs are computed from the base model's states, at the places asked for alone."""

    @abstractmethod
    def call_whole(self) -> None:
        """From now on every forward is one of the whole model, and no prefix is stored."""

    @abstractmethod
    def surprises(self, inputs: Inputs, n: int) -> torch.Tensor:
        """Cross-entropies by which a forward is compared with a plain one, shape ``(rows, k)``, float32.

        Of the last ``n`` tokens of each row, given those before; of a classifier's classes.
        """

    @abstractmethod
    def plain_surprises(self, tokens: Sequence[int], n: int) -> torch.Tensor:
        """The same of one prompt by the unmodified model's own forward of it alone, shape ``(k,)``."""

    def blind_surprise(self, tokens: Sequence[int]) -> torch.Tensor | None:  # noqa: ARG002
        """Cross-entropy of the last token by a plain forward of those before it alone; None for a classifier."""
        return None

    def n_forwarded(self, example: int, n_tokens: int) -> int:
        """Tokens forwarded for a prompt of ``n_tokens``, the target counted as it follows the first prompt."""
        return n_tokens + len(self.endings[example])

    def follow(self, prompts: Sequence[str]) -> None:
        """Take a first prompt of each example, which its target is read behind; a classifier has no targets."""
        assert len(prompts) == len(self.names)

    def endings_after(self, prompts: Sequence[tuple[int, str]]) -> list[list[int]]:
        """Tokens of the target of each (example, whole prompt) as they follow that prompt; none for a classifier."""
        return [[] for _ in prompts]

    def check_lengths(self, lengths: Sequence[int]) -> None:
        """Refuse prompts (one an example, in tokens) that do not fit the model.

        Raises:
            AttackError: names the first such example, its length and what is allowed.
        """
        for example, length in enumerate(lengths):
            self.check_length(example, length)

    @cached_property
    def _limit(self) -> int:
        """Tokens that the model reads. Asked for at every prompt, and a configuration answers slowly."""
        return window(self.model)

    def check_length(self, example: int, length: int) -> None:
        """Refuse one prompt of ``length`` tokens that does not fit the model."""
        self.check_total(example, self.n_forwarded(example, length))

    def check_total(self, example: int, total: int) -> None:
        """Refuse a prompt and its target of ``total`` tokens together that do not fit the model."""
        if total > self._limit:
            raise AttackError(
                f"example {self.names[example]}: {total} tokens with its attack, the victim reads {self._limit}; "
                "lower the task's max_tokens"
            )

    # --- forwards ---------------------------------------------------------------------------------------------------

    def hidden(self, inputs: Inputs, embeds: torch.Tensor | None) -> torch.Tensor:
        """Last hidden states of the base model, shape ``(rows, width, hidden)``."""
        what = {"input_ids": inputs.ids} if embeds is None else {"inputs_embeds": embeds}
        return self.base(**what, **inputs.arguments).last_hidden_state

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """What the embedding module returns for tokens, shape ``(rows, width, hidden)``.

        Raises:
            AttackError: something else than a vector a token.
        """
        embeds = self.embedding(ids)
        if not isinstance(embeds, torch.Tensor) or embeds.shape[:-1] != ids.shape:
            raise AttackError(f"{name_of(self.model)}: its embedding module returns no vector a token; {NO_PLACE}")
        return embeds

    def whole(self, inputs: Inputs, embeds: torch.Tensor | None, **more: Any) -> Any:
        """What the model as a whole returns for packed tokens; ``embeds`` stand in for their embeddings.

        It gets the tokens themselves in any case, and no more than tokens and mask: what an architecture makes of them
        is its own business. Padding is on the right and no prefix is stored, so all positions count from 0.
        """
        arguments = {key: value for key, value in inputs.arguments.items() if key in ("attention_mask", "use_cache")}
        arguments = {key: value for key, value in arguments.items() if key in self._model_accepts}
        # A copy: some architectures scale what they get in place.
        seen = contextlib.nullcontext() if embeds is None else embeddings_as(self.embedding, lambda _: embeds.clone())
        with seen:
            return self.model(input_ids=inputs.ids, **arguments, **more)

    def plain(self, tokens: Sequence[int]) -> torch.Tensor:
        """Logits of one prompt by the library's own forward of it alone: no padding, no stored prefix."""
        ids = torch.tensor([list(tokens)], device=self.device)
        arguments = {"attention_mask": torch.ones_like(ids)} if "attention_mask" in self._model_accepts else {}
        logits: torch.Tensor = self.model(input_ids=ids, **arguments).logits
        return logits[0]

    def evaluating(self) -> contextlib.AbstractContextManager[None]:
        """Context that freezes the model."""
        return frozen(self.model)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast context of forward passes."""
        if self.dtype is None or self.dtype == self.embedding.weight.dtype:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def packed(self, blocks: Sequence[RowBlock], batch: MicroBatch) -> Inputs:
        """Pack rows of blocks for one forward of an attack; see :meth:`laid_out`."""
        return self.laid_out(blocks, batch)

    def laid_out(self, blocks: Sequence[RowBlock], batch: MicroBatch) -> Inputs:
        """Rows of blocks side by side: right padding, positions that go on from each prefix, a mask over padding."""
        slices = batch.slices
        parts = [blocks[piece.block] for piece in slices]
        counts = [piece.n_rows for piece in slices]
        whole = [blocks[piece.block] for piece in batch.whole]
        width = max(part.n_new for part in whole)
        stored = max(part.reused for part in whole)
        ids = torch.full((sum(counts), width), self._pad)
        row = 0
        for part, piece in zip(parts, slices, strict=True):
            ids[row : row + piece.n_rows, : part.n_new] = part.tokens[piece.start : piece.stop, part.reused :]
            row += piece.n_rows
        repeats = torch.tensor(counts)
        lengths = torch.tensor([part.n_new for part in parts]).repeat_interleave(repeats)
        reused = torch.tensor([part.reused for part in parts]).repeat_interleave(repeats)
        column = torch.arange(width)
        arguments: dict[str, Any] = {}
        if "use_cache" in self._accepted:
            arguments["use_cache"] = False
        mask = column < lengths[:, None]
        if stored:
            cache, stored = self.cache.view([part.example for part in parts], counts, [part.example for part in whole])
            arguments |= {"past_key_values": cache, "use_cache": True}
            mask = torch.cat([torch.arange(stored) < reused[:, None], mask], dim=1)
        if "position_ids" in self._accepted:
            # Padding repeats the last position, so that learned positions never run past their table.
            positions = torch.minimum(reused[:, None] + column, (reused + lengths - 1)[:, None])
            arguments["position_ids"] = positions.to(self.device)
        arguments["attention_mask"] = mask.long().to(self.device)
        rows = [part for part, count in zip(parts, counts, strict=True) for _ in range(count)]
        examples, endings = [part.example for part in rows], [part.n_ending for part in rows]
        return Inputs(ids.to(self.device), examples, lengths.to(self.device), arguments, endings)

    def forwards(
        self, blocks: Sequence[RowBlock], work: Callable[[MicroBatch], _T], share: int = 1
    ) -> Iterator[tuple[MicroBatch, _T]]:
        """Work on all rows of blocks in micro-batches, in an order that depends on the blocks alone.

        When memory runs out, the micro-batch and all that still wait are cut in two and the work goes on there.

        Args:
            blocks: what is forwarded.
            work: what is done with one micro-batch; done again with halves of it where it found no memory.
            share: a micro-batch takes this part of the budget.

        Yields:
            each micro-batch and what ``work`` returned for it.

        Raises:
            AttackError: no memory for a single prompt; names its example. The architecture's numbers are other ones
                in a batch than alone.
        """
        self._check.packing([block.tokens[0].tolist() for block in blocks if len(block.tokens)])
        yield from self._in_batches(blocks, work, share)

    def _in_batches(
        self, blocks: Sequence[RowBlock], work: Callable[[MicroBatch], _T], share: int = 1
    ) -> Iterator[tuple[MicroBatch, _T]]:
        assert self.budget.tokens is not None
        waiting = [MicroBatch(slices, slices) for slices in micro_batches(blocks, max(self.budget.tokens // share, 1))]
        for _ in range(self.budget.halvings):
            waiting = [half for batch in waiting for half in halves(batch)]
        while waiting:
            pulse.beat()
            try:
                done = work(waiting[0])
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if waiting[0].n_rows == 1:
                    raise self._too_small(blocks[waiting[0].slices[0].block]) from error
            else:
                yield waiting.pop(0), done
                continue
            # Not inside ``except``: the error's frames hold the tensors that did not fit.
            self.budget.halve()
            waiting = [half for batch in waiting for half in halves(batch)]

    def _too_small(self, block: RowBlock) -> AttackError:
        return AttackError(
            f"example {self.names[block.example]}: out of memory with a single prompt of {block.tokens.shape[1]} "
            "tokens; give the job more memory (--set-resources attack:mem_mb=N), a larger GPU, or a lower max_tokens"
        )

    @torch.no_grad()
    def remember(self, prefixes: Sequence[Sequence[int]]) -> None:
        """Compute and store the prefixes, one an example, that are long enough to be worth it."""
        if not self.can_cache:
            return
        self._check.packing(prefixes)
        if not self.can_cache:  # the comparison may have ended that
            return
        blocks = [
            RowBlock(i, torch.tensor([list(prefix)]))
            for i, prefix in enumerate(prefixes)
            if len(prefix) >= SHORTEST_STORED
        ]

        def compute(batch: MicroBatch) -> None:
            inputs = self.packed(blocks, batch)
            cache = DynamicCache()
            with self.autocast():
                self.base(input_ids=inputs.ids, **(inputs.arguments | {"past_key_values": cache, "use_cache": True}))
            for row, example in enumerate(inputs.examples):
                self.cache.store(example, prefixes[example], cache, row)

        for _ in self._in_batches(blocks, compute):
            pass
        self._check.storing([block.example for block in blocks])

    def forget(self) -> None:
        """Drop all stored prefixes and store none any more."""
        self.can_cache, self.cache = False, PrefixCache(len(self.names))

    def block(self, example: int, tokens: torch.Tensor, ending: Sequence[int] | None = None) -> RowBlock:
        """Whole prompts of one example that all start with its stored prefix, with the target behind them.

        Args:
            example: whose prompts they are.
            tokens: of the prompts, shape ``(n, length)``.
            ending: of the target as it follows them; as it follows the first prompt when absent.
        """
        after = list(self.endings[example] if ending is None else ending)
        if after:
            tokens = torch.cat([tokens, torch.tensor(after).expand(tokens.shape[0], -1)], dim=1)
        return RowBlock(example, tokens, len(self.cache.prefixes[example]), len(after))

    def flop_counter(self, example: int, shape: ModelShape) -> FlopCounter:
        """A new counter of an example, its stored prefix counted."""
        return FlopCounter(shape, self.head_products[example], len(self.cache.prefixes[example]))

    @torch.no_grad()
    def score(self, blocks: Sequence[RowBlock]) -> list[Scores]:
        """Losses and successes of every row of every block, in order.

        Raises:
            AttackError: a loss is not finite; names the example.
        """

        def judge(batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
            with self.autocast():
                return self.judge(self.packed(blocks, batch), None)

        done = list(self.forwards(blocks, judge))
        scores = [Scores(torch.empty(len(b.tokens)), torch.empty(len(b.tokens), dtype=torch.bool)) for b in blocks]
        for batch, (losses, successes) in done:
            losses, successes, row = losses.cpu(), successes.cpu(), 0
            for piece in batch.slices:
                self._check_finite(losses[row : row + piece.n_rows], blocks[piece.block].example)
                scores[piece.block].losses[piece.start : piece.stop] = losses[row : row + piece.n_rows]
                scores[piece.block].successes[piece.start : piece.stop] = successes[row : row + piece.n_rows]
                row += piece.n_rows
        return scores

    def gradient(self, blocks: Sequence[RowBlock]) -> tuple[list[Scores], list[torch.Tensor]]:
        """Scores of one prompt a block, and the loss gradient at the embeddings of its computed tokens.

        Returns:
            scores, and for each block a tensor of shape ``(n_new, hidden)`` on the victim's device.
        """
        scores: list[Scores | None] = [None] * len(blocks)
        gradients: list[torch.Tensor | None] = [None] * len(blocks)

        def differentiate(batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            inputs = self.packed(blocks, batch)
            embeds = self.embed(inputs.ids).detach().requires_grad_(True)
            with torch.enable_grad(), self.autocast():
                losses, successes = self.judge(inputs, embeds)
                # Rows do not read each other, so the gradient of the sum holds each row's own.
                [gradient] = self._differentiated(losses.sum(), embeds)
            return losses.detach().cpu(), successes.cpu(), gradient

        for batch, (losses, successes, gradient) in self.forwards(blocks, differentiate, GRADIENT_SHARE):
            for row, piece in enumerate(batch.slices):
                block = blocks[piece.block]
                self._check_finite(losses[row : row + 1], block.example)
                scores[piece.block] = Scores(losses[row : row + 1], successes[row : row + 1])
                gradients[piece.block] = gradient[row, : block.n_new]
        return [s for s in scores if s is not None], [g for g in gradients if g is not None]

    def _differentiated(self, loss: torch.Tensor, embeds: torch.Tensor) -> tuple[torch.Tensor, ...]:
        try:
            return torch.autograd.grad(loss, embeds)
        except RuntimeError as error:
            if "inplace operation" not in str(error):
                raise
            raise AttackError(failure(self.model, "a gradient", error)) from error

    def _check_finite(self, losses: torch.Tensor, example: int) -> None:
        if not bool(torch.isfinite(losses).all()):
            raise AttackError(
                f"example {self.names[example]}: the victim's loss is not finite; check the model's weights and dtype"
            )
