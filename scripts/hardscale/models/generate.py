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

from hardscale import pulse
from hardscale.errors import ModelError
from hardscale.memory import Budget, is_out_of_memory
from hardscale.models.window import window
from hardscale.seeds import derive_seed

#: Tokens (prompt and reply, of all rows together) that are worked on at once; keys and values of each are held.
CPU_TOKENS, CUDA_TOKENS = 8_192, 65_536


@dataclass(frozen=True)
class Sampling:
    """Replies drawn from the model's distribution instead of the likeliest ones.

    Attributes:
        temperature: the logits are divided by it.
        top_p: only the likeliest tokens that together have this probability are drawn.
        seed: root of the random streams; each prompt has its own.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@dataclass
class _Row:
    """One prompt and what has been written after it."""

    name: str
    prompt: list[int]
    perturbation: torch.Tensor | None
    left: int
    rng: random.Random | None
    written: list[int] = field(default_factory=list)
    ended: bool = False


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
    """What a model writes after each prompt, up to an end token of its tokenizer or generation configuration.

    Prompts are padded on the left with explicit positions, so that a reply does not depend on the prompts beside it.
    When memory runs out, the batch is cut in two and begun again.

    Args:
        model: a causal language model; in evaluation mode meanwhile.
        tokenizer: its tokenizer.
        prompts: token ids, special tokens included; the begin of a reply may be their end.
        max_new_tokens: of a reply; fewer where the model reads no more.
        sample: how to draw; the likeliest tokens when absent.
        perturbations: added to the embeddings of a prompt's tokens, float32, shape ``(prompt tokens, hidden)`` each.
        budget: tokens at once; by device when absent.
        keys: integers that name the prompts, in errors and in their random streams; their index when absent.
        callback: told how many more replies are ready.

    Returns:
        the replies without special tokens, in order.

    Raises:
        ModelError: a prompt that is empty or too long, a perturbation of another shape, an output that is not a number,
            no memory for a single prompt, an architecture without a key and value cache.
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
        rows.append(_Row(name, list(prompt), delta, left, rng))
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise ModelError(f"{type(model).__name__}: keeps no keys and values; use a decoder that does")
    budget = budget or Budget()
    tokens = budget.tokens or (CUDA_TOKENS if model.device.type == "cuda" else CPU_TOKENS)
    writer = _Writer(model, tokenizer, sample)
    with _evaluating(model), torch.no_grad():
        for batch in _batches(rows, tokens, max_new_tokens):
            _write(writer, batch, budget)
            if callback:
                callback(len(batch))
    return [tokenizer.decode(row.written, skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in rows]


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Token ids after which nothing more is written."""
    generation = getattr(model, "generation_config", None)
    found: set[int] = set()
    for source in (tokenizer, generation, model.config.get_text_config()):
        ids = getattr(source, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    return frozenset(found)


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _batches(rows: Sequence[_Row], tokens: int, max_new_tokens: int) -> list[list[_Row]]:
    """Rows of like length together, by the prompts' lengths alone."""
    batches: list[list[_Row]] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):  # stable: equal lengths keep their order
        size = len(row.prompt) + max_new_tokens
        if not batches or (len(batches[-1]) + 1) * size > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def _write(writer: _Writer, batch: Sequence[_Row], budget: Budget) -> None:
    """Write the replies of a batch, in parts where it does not fit; all parts are as wide as the whole."""
    width = max(len(row.prompt) for row in batch)
    parts = [list(batch)]
    for _ in range(budget.halvings):
        parts = [half for part in parts for half in _halves(part)]
    while parts:
        begun = [row.rng.getstate() if row.rng else None for row in parts[0]]
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
        for row, state in zip(parts[0], begun, strict=True):
            row.written, row.ended = [], False
            if row.rng and state:
                row.rng.setstate(state)
        budget.halve()
        parts = [half for part in parts for half in _halves(part)]


def _halves(part: list[_Row]) -> list[list[_Row]]:
    middle = (len(part) + 1) // 2
    return [half for half in (part[:middle], part[middle:]) if half]


class _Writer:
    """The decoding loop of one model."""

    def __init__(self, model: Any, tokenizer: Any, sample: Sampling | None) -> None:
        self.model = model
        self.sample = sample
        self.ends = end_tokens(model, tokenizer)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._accepted = set(inspect.signature(model.forward).parameters)

    def write(self, rows: list[_Row], width: int) -> None:
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
        what = {"input_ids": ids} if all(row.perturbation is None for row in rows) else self._perturbed(rows, ids)
        alive = rows
        while True:
            pulse.beat()
            chosen = self._choose(alive, self._logits(what, mask, positions, cache))
            kept = self._note(alive, chosen)
            if not kept:
                return
            if len(kept) < len(alive):
                index = torch.tensor(kept, device=device)
                cache.batch_select_indices(index)
                mask, positions = mask[index], positions[index]
                alive = [alive[i] for i in kept]
            what = {"input_ids": torch.tensor([[chosen[i]] for i in kept], device=device)}
            mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=1)
            positions = positions[:, -1:] + 1

    def _perturbed(self, rows: Sequence[_Row], ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Prompt embeddings with what is added to them, at each row's own tokens."""
        embeds = self.model.get_input_embeddings()(ids)
        for i, row in enumerate(rows):
            if row.perturbation is not None:
                embeds[i, -len(row.prompt) :] += row.perturbation.to(embeds)
        return {"inputs_embeds": embeds}

    def _logits(
        self, what: dict[str, torch.Tensor], mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits of the next token, float32, shape ``(rows, vocabulary)``; the cache grows."""
        options: dict[str, Any] = {"attention_mask": mask, "past_key_values": cache, "use_cache": True}
        if "position_ids" in self._accepted:
            options["position_ids"] = positions
        if "logits_to_keep" in self._accepted:
            options["logits_to_keep"] = 1
        return self.model(**what, **options).logits[:, -1].float()

    def _choose(self, rows: Sequence[_Row], logits: torch.Tensor) -> list[int]:
        """The next token of each row."""
        broken = logits.amax(dim=1).isfinite().logical_not()  # NaN wins a maximum
        if self.sample is None:
            chosen = logits.argmax(dim=1)
        else:
            draws = torch.tensor([row.rng.random() for row in rows if row.rng], dtype=torch.float64)
            chosen = draw(logits, draws.to(logits.device), self.sample)
        tokens, bad = torch.stack([chosen, broken.long()]).tolist()
        if any(bad):
            name = rows[bad.index(1)].name
            raise ModelError(f"prompt {name}: the model's output is not a number; check its weights and dtype")
        return tokens

    def _note(self, rows: Sequence[_Row], chosen: Sequence[int]) -> list[int]:
        """Add a token to each row; returns the rows that go on."""
        kept = []
        for i, (row, token) in enumerate(zip(rows, chosen, strict=True)):
            row.ended = token in self.ends
            if not row.ended:
                row.written.append(token)
            if not row.ended and len(row.written) < row.left:
                kept.append(i)
        return kept


def draw(logits: torch.Tensor, uniform: torch.Tensor, how: Sampling) -> torch.Tensor:
    """A token of each row by inverting the distribution function over tokens from likely to unlikely.

    Args:
        logits: shape ``(rows, vocabulary)``.
        uniform: numbers in [0, 1), float64, shape ``(rows,)``.
        how: temperature and top-p.

    Returns:
        token ids, shape ``(rows,)``.
    """
    probabilities, order = (logits.double() / how.temperature).softmax(dim=1).sort(dim=1, descending=True, stable=True)
    upto = probabilities.cumsum(dim=1)
    probabilities = probabilities * (upto - probabilities < how.top_p)  # the first one always stays
    upto = probabilities.cumsum(dim=1)
    place = torch.searchsorted(upto, (uniform * upto[:, -1])[:, None], right=True)
    last = (probabilities > 0).sum(dim=1, keepdim=True) - 1
    return order.gather(1, torch.minimum(place, last))[:, 0]
