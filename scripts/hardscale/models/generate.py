"""Replies of a causal language model: many prompts at once, each the same as alone, greedily or by seeded sampling."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from hardscale.artifacts.seeds import derive_seed
from hardscale.errors import ModelError
from hardscale.models.outputs import FORWARD_ERRORS, embeddings_as, failure, name_of, same_losses
from hardscale.models.turn_end import turn_end
from hardscale.models.window import window
from hardscale.runtime import pulse
from hardscale.runtime.console import say
from hardscale.runtime.memory import Budget, is_out_of_memory

#: Tokens (prompt and reply, of all rows together) that are worked on at once; keys and values of each are held.
CPU_TOKENS, CUDA_TOKENS = 8_192, 65_536
#: Tokens of a reply that are compared with a plain forward.
_N_COMPARED = 16
#: Last tokens of a prompt that a reply is read behind.
_N_NEAR = 8


@dataclass(frozen=True)
class Sampling:
    """Replies drawn from the model's distribution instead of the likeliest ones.

    Attributes:
        temperature: the logits are divided by it.
        top_p: only the likeliest tokens that together have this probability are drawn.
        seed: root of the random streams; each prompt has its own.
        top_k: only so many of the likeliest tokens are drawn, and ``top_p`` is a share of these; None for all.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int | None = None


@dataclass
class _WrittenRow:
    """One prompt and what has been written after it."""

    name: str
    prompt: list[int]
    perturbation: torch.Tensor | None
    left: int
    rng: random.Random | None
    written: list[int] = field(default_factory=list)
    ended: bool = False
    #: The first tokens chosen, an end token too, and the log-probabilities that the model gave them.
    chosen: list[tuple[int, float]] = field(default_factory=list)


def reply(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    *,
    sample: Sampling | None = None,
    perturbations: Sequence[torch.Tensor | None] | None = None,
    budget: Budget | None = None,
    keys: Sequence[int] | None = None,
    callback: Callable[[int], None] | None = None,
) -> list[str]:
    """What a model writes after each prompt, up to where its turn ends.

    That is an end token of its tokenizer, its configurations or its chat template, or the text that a template ends a
    turn with where it is no token (:mod:`hardscale.models.turn_end`).

    Prompts are padded on the left with explicit positions, so that a reply does not depend on the prompts beside it.
    When memory runs out, the batch is cut in two and begun again. The reply to the first prompt, and the first one to a
    padded prompt, are compared with a plain forward of the whole; where padding changes it, only prompts of equal
    length are worked on at once, and a line says so.

    Args:
        model: a causal language model; in evaluation mode meanwhile.
        tokenizer: its tokenizer.
        prompts: token ids, special tokens included; the beginning of a reply may be their end.
        max_new_tokens: of a reply; fewer where the model reads no more.
        sample: how to draw; the likeliest tokens when absent.
        perturbations: added to the embeddings of a prompt's tokens, float32, shape ``(prompt tokens, hidden)`` each.
        budget: tokens at once; by device when absent.
        keys: integers that name the prompts, in errors and in their random streams; their index when absent.
        callback: told how many more replies are ready.

    Returns:
        the replies without special tokens, in order, as they go on with the prompts' text: where a tokenizer drops the
        space that a text begins with, a reply behind other text keeps it.

    Raises:
        ModelError: a prompt that is empty or too long, a perturbation of another shape, an output that is not a number,
            no memory for a single prompt, an architecture without a key and value cache or whose cache gives other
            outputs than a plain forward.
    """
    if max_new_tokens < 1:
        raise ModelError(f"max_new_tokens: found {max_new_tokens}; give at least 1")
    called = [str(key) for key in (range(len(prompts)) if keys is None else keys)]
    limit = window(model)
    rows = []
    deltas = perturbations or [None] * len(prompts)
    for name, prompt, delta in zip(called, prompts, deltas, strict=True):
        if not 0 < len(prompt) < limit:
            raise ModelError(f"prompt {name}: {len(prompt)} tokens; give 1 to {limit - 1}, or lower max_tokens")
        if delta is not None and delta.shape[:-1] != (len(prompt),):
            raise ModelError(f"prompt {name}: a perturbation of shape {tuple(delta.shape)} for {len(prompt)} tokens")
        left = min(max_new_tokens, limit - len(prompt))
        rng = random.Random(derive_seed(sample.seed, "reply", name)) if sample else None
        rows.append(_WrittenRow(name, list(prompt), delta, left, rng))
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise ModelError(f"{type(model).__name__}: keeps no keys and values; use a decoder that does")
    budget = budget or Budget()
    tokens = budget.tokens or (CUDA_TOKENS if model.device.type == "cuda" else CPU_TOKENS)
    writer = _Writer(model, tokenizer, sample)
    with _evaluating(model), torch.no_grad():
        waiting = _batches(rows, tokens, max_new_tokens)
        while waiting:
            batch = waiting.pop(0)
            begun = _begin(batch)
            try:
                _write(writer, batch, budget)
            except FORWARD_ERRORS as error:
                if writer.proven:
                    raise
                raise ModelError(failure(model, "a forward with stored keys and values", error)) from error
            if not writer.stands(batch):
                say(f"note: {name_of(model)}: padding changes its replies; prompts of equal length alone go together")
                _begin_again(batch, begun)
                waiting = [part for one in (batch, *waiting) for part in _of_equal_length(one)]
                continue
            if callback:
                callback(len(batch))
    return [writer.end.cut(_text(tokenizer, row)) for row in rows]


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Token ids after which nothing more is written."""
    generation = getattr(model, "generation_config", None)
    found = set(turn_end(tokenizer).tokens)
    for source in (tokenizer, generation, model.config.get_text_config()):
        ids = getattr(source, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    return frozenset(found)


def _text(tokenizer: Any, row: _WrittenRow) -> str:
    """What a row's tokens add to the text of its prompt behind its last special token."""
    special = set(getattr(tokenizer, "all_special_ids", ()))
    near = row.prompt[-_N_NEAR:]
    last = max((i for i, token in enumerate(near, start=1) if token in special), default=0)
    before, whole = (
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for ids in (near[last:], near[last:] + row.written)
    )
    if whole.startswith(before):
        return str(whole.removeprefix(before))
    alone = tokenizer.decode(row.written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(alone)


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _batches(rows: Sequence[_WrittenRow], tokens: int, max_new_tokens: int) -> list[list[_WrittenRow]]:
    """Rows of like length together, by the prompts' lengths alone."""
    batches: list[list[_WrittenRow]] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):  # stable: equal lengths keep their order
        size = len(row.prompt) + max_new_tokens
        if not batches or (len(batches[-1]) + 1) * size > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def _of_equal_length(batch: Sequence[_WrittenRow]) -> list[list[_WrittenRow]]:
    lengths = sorted({len(row.prompt) for row in batch})
    return [[row for row in batch if len(row.prompt) == length] for length in lengths]


def _begin(rows: Sequence[_WrittenRow]) -> list[Any]:
    """The random states of rows."""
    return [row.rng.getstate() if row.rng else None for row in rows]


def _begin_again(rows: Sequence[_WrittenRow], begun: Sequence[Any]) -> None:
    """Take back what was written since :func:`_begin`."""
    for row, state in zip(rows, begun, strict=True):
        row.written, row.ended, row.chosen = [], False, []
        if row.rng and state:
            row.rng.setstate(state)


def _write(writer: _Writer, batch: Sequence[_WrittenRow], budget: Budget) -> None:
    """Write the replies of a batch, in parts where it does not fit; all parts are as wide as the whole."""
    width = max(len(row.prompt) for row in batch)
    parts = [list(batch)]
    for _ in range(budget.halvings):
        parts = [half for part in parts for half in _halves(part)]
    while parts:
        begun = _begin(parts[0])
        try:
            writer.write(parts[0], width)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(parts[0]) == 1:
                raise ModelError(
                    f"prompt {parts[0][0].name}: out of memory with a single prompt; give the job more memory, "
                    "a larger GPU, or a lower max_new_tokens"
                ) from error
        else:
            parts.pop(0)
            continue
        # Not inside ``except``: the error's frames hold the tensors that did not fit.
        _begin_again(parts[0], begun)
        budget.halve()
        parts = [half for part in parts for half in _halves(part)]


def _halves(part: list[_WrittenRow]) -> list[list[_WrittenRow]]:
    middle = (len(part) + 1) // 2
    return [half for half in (part[:middle], part[middle:]) if half]


class _Writer:
    """The decoding loop of one model."""

    def __init__(self, model: Any, tokenizer: Any, sample: Sampling | None) -> None:
        self.model = model
        self.sample = sample
        self.ends, self.end = end_tokens(model, tokenizer), turn_end(tokenizer)
        self._tokenizer = tokenizer
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._accepted = set(inspect.signature(model.forward).parameters)
        #: Whether replies to prompts without and with padding are still to be compared.
        self._unseen = {False, True}

    @property
    def proven(self) -> bool:
        """Whether a batch was written and compared."""
        return len(self._unseen) < 2

    def stands(self, batch: Sequence[_WrittenRow]) -> bool:
        """Whether the first reply of a batch, of the most padded prompt, is that of a plain forward of the whole.

        Compared are the log-probabilities of its tokens, once without padding and once with.

        Raises:
            ModelError: another one without padding.
        """
        row, padded = batch[0], len({len(row.prompt) for row in batch}) > 1
        if padded not in self._unseen:
            return True
        self._unseen.discard(padded)
        told = torch.tensor([value for _, value in row.chosen])
        try:
            wanted = self._plainly(row)
        except Exception as error:
            if is_out_of_memory(error):
                return True  # keys and values take less than a plain forward
            raise
        if same_losses(told, wanted, self.model):
            return True
        if padded:
            return False
        raise ModelError(
            f"{name_of(self.model)}: with stored keys and values it writes other replies than a plain forward would; "
            "use another architecture"
        )

    def _plainly(self, row: _WrittenRow) -> torch.Tensor:
        """Log-probabilities of a reply's first tokens by one forward of prompt and reply, shape ``(tokens,)``."""
        tokens = [token for token, _ in row.chosen]
        ids = torch.tensor([row.prompt + tokens[:-1]], device=self.model.device)
        mask = {"attention_mask": torch.ones_like(ids)} if "attention_mask" in self._accepted else {}
        with self._shifted([row], len(row.prompt)):
            logits = self.model(input_ids=ids, **mask).logits[0, len(row.prompt) - 1 :].float().cpu()
        return logits.log_softmax(dim=1).gather(1, torch.tensor(tokens)[:, None])[:, 0]

    def write(self, rows: list[_WrittenRow], width: int) -> None:
        """Write the replies of some rows, side by side."""
        device = self.model.device
        ids, mask = torch.full((len(rows), width), self.pad), torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[i, width - len(row.prompt) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        cache = DynamicCache(config=self.model.config)
        # Padding reads position 0; nothing reads padding.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        alive, perturbed = rows, self._shifted(rows, width)
        while True:
            pulse.beat()
            with perturbed:
                logits = self._logits(ids, mask, positions, cache)
            perturbed = contextlib.nullcontext()  # the prompt is read once
            chosen = self._choose(alive, logits)
            kept = self._note(alive, chosen)
            if not kept:
                return
            if len(kept) < len(alive):
                index = torch.tensor(kept, device=device)
                cache.batch_select_indices(index)
                mask, positions = mask[index], positions[index]
                alive = [alive[i] for i in kept]
            ids = torch.tensor([[chosen[i]] for i in kept], device=device)
            mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=1)
            positions = positions[:, -1:] + 1

    def _shifted(self, rows: Sequence[_WrittenRow], stop: int) -> contextlib.AbstractContextManager[None]:
        """Within this context, perturbations are added at each row's own tokens, which end before ``stop``."""
        if all(row.perturbation is None for row in rows):
            return contextlib.nullcontext()

        def shift(embeds: torch.Tensor) -> torch.Tensor:
            embeds = embeds.clone()
            for i, row in enumerate(rows):
                if row.perturbation is not None:
                    embeds[i, stop - len(row.prompt) : stop] += row.perturbation.to(embeds)
            return embeds

        return embeddings_as(self.model.get_input_embeddings(), shift)

    def _logits(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits of the next token, float32, shape ``(rows, vocabulary)``; the cache grows."""
        options: dict[str, Any] = {"attention_mask": mask, "past_key_values": cache, "use_cache": True}
        if "position_ids" in self._accepted:
            options["position_ids"] = positions
        if "logits_to_keep" in self._accepted:
            options["logits_to_keep"] = 1
        return self.model(input_ids=ids, **options).logits[:, -1].float()

    def _choose(self, rows: Sequence[_WrittenRow], logits: torch.Tensor) -> list[int]:
        """The next token of each row."""
        broken = logits.amax(dim=1).isfinite().logical_not()  # NaN wins a maximum
        if self.sample is None:
            chosen = logits.argmax(dim=1)
        else:
            draws = torch.tensor([row.rng.random() for row in rows if row.rng], dtype=torch.float64)
            chosen = draw(logits, draws.to(logits.device), self.sample)
        if self._unseen:
            self._note_chosen(rows, logits, chosen)
        tokens, bad = torch.stack([chosen, broken.long()]).tolist()
        if any(bad):
            name = rows[bad.index(1)].name
            raise ModelError(f"prompt {name}: the model's output is not a number; check its weights and dtype")
        return tokens

    def _note_chosen(self, rows: Sequence[_WrittenRow], logits: torch.Tensor, chosen: torch.Tensor) -> None:
        told = logits.log_softmax(dim=1).gather(1, chosen[:, None])[:, 0]
        for row, token, value in zip(rows, chosen.tolist(), told.tolist(), strict=True):
            if len(row.chosen) < _N_COMPARED:
                row.chosen.append((token, value))

    def _note(self, rows: Sequence[_WrittenRow], chosen: Sequence[int]) -> list[int]:
        """Add a token to each row; returns the rows that go on."""
        kept = []
        for i, (row, token) in enumerate(zip(rows, chosen, strict=True)):
            row.ended = token in self.ends
            if not row.ended:
                row.written.append(token)
                row.ended = self._spells_end(row)
            if not row.ended and len(row.written) < row.left:
                kept.append(i)
        return kept

    def _spells_end(self, row: _WrittenRow) -> bool:
        """Whether a row's last tokens hold a text that ends its turn."""
        if not self.end.texts:
            return False
        # A token has a byte at least; one more holds what follows the end in the last token.
        longest = max(len(text.encode()) for text in self.end.texts) + 1
        late = self._tokenizer.decode(row.written[-longest:], clean_up_tokenization_spaces=False)
        return any(text in late for text in self.end.texts)


def draw(logits: torch.Tensor, uniform: torch.Tensor, how: Sampling) -> torch.Tensor:
    """A token of each row by inverting the distribution function over tokens from likely to unlikely.

    Args:
        logits: shape ``(rows, vocabulary)``.
        uniform: numbers in [0, 1), float64, shape ``(rows,)``.
        how: temperature, top-k and top-p.

    Returns:
        token ids, shape ``(rows,)``.
    """
    probabilities, order = (logits.double() / how.temperature).softmax(dim=1).sort(dim=1, descending=True, stable=True)
    if how.top_k is not None:
        probabilities = probabilities[:, : how.top_k] / probabilities[:, : how.top_k].sum(dim=1, keepdim=True)
    upto = probabilities.cumsum(dim=1)
    probabilities = probabilities * (upto - probabilities < how.top_p)  # the first one always stays
    upto = probabilities.cumsum(dim=1)
    place = torch.searchsorted(upto, (uniform * upto[:, -1])[:, None], right=True)
    last = (probabilities > 0).sum(dim=1, keepdim=True) - 1
    return order.gather(1, torch.minimum(place, last))[:, 0]
