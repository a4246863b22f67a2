"""Keys and values of the tokens before each example's attack, computed once and read by every later forward."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

#: Causal architectures whose attention takes any cache object and explicit positions (each has a test).
CACHED_FAMILIES = frozenset({"gpt_neox", "llama", "qwen2", "qwen3", "mistral"})


def can_reuse_prefixes(base: Any) -> bool:
    """Whether a base model's attention may read stored keys and values: causal, over all earlier tokens."""
    config = base.config
    if config.model_type not in CACHED_FAMILIES:
        return False
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and set(kinds) != {"full_attention"}:
        return False
    if kinds is None and getattr(config, "sliding_window", None):
        return False
    return {"past_key_values", "position_ids"} <= set(inspect.signature(base.forward).parameters)


class _PrefixLayer(DynamicLayer):
    """One layer's stored keys and values; attention sees them followed by the new ones, and nothing is kept.

    The library's own layers grow in place at every forward, which would corrupt a prefix that is read again.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """Keys and values for attention, shape ``(rows, heads, stored + new, head width)``."""
        assert self.keys is not None and self.values is not None
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


class PrefixCache:
    """Stored prefixes of a set of examples.

    Attributes:
        prefixes: tokens of each example's stored prefix; empty where nothing is stored.
    """

    def __init__(self, n_examples: int) -> None:
        self.prefixes: list[tuple[int, ...]] = [()] * n_examples
        self._stored: list[torch.Tensor | None] = [None] * n_examples

    def store(self, example: int, prefix: Sequence[int], cache: DynamicCache, row: int) -> None:
        """Keep one row of a cache that was filled by a right-padded forward of prefixes."""
        n = len(prefix)
        parts = [part[row, :, :n] for keys, values, *_ in cache for part in (keys, values)]
        self.prefixes[example] = tuple(prefix)
        self._stored[example] = torch.stack(parts)  # (2 * layers, heads, n, head width)

    def reusable(self, example: int, tokens: Sequence[int]) -> int:
        """Leading tokens of a prompt that are stored; at least its last token is left to compute."""
        prefix = self.prefixes[example]
        n = min(len(prefix), len(tokens) - 1)
        if tuple(tokens[:n]) == prefix[:n]:
            return n
        return next(i for i in range(n) if tokens[i] != prefix[i])

    def view(self, examples: Sequence[int], counts: Sequence[int], among: Sequence[int]) -> tuple[Cache, int]:
        """A cache for rows of these examples (``counts`` rows each, in order) and its length, shorter ones padded.

        It is as long as the longest prefix of the examples ``among``, of which at least one has a stored prefix.
        What lies beyond an example's prefix is zeros that the attention mask has to hide.
        """
        stored = [self._stored[example] for example in examples]
        known = [part for part in (self._stored[example] for example in among) if part is not None]
        length, some = max(part.shape[2] for part in known), known[0]
        empty = some.new_zeros(some.shape[0], some.shape[1], 0, some.shape[3])
        padded = [
            pad(part, (0, 0, 0, length - part.shape[2])) for part in (p if p is not None else empty for p in stored)
        ]
        if len(padded) == 1:
            rows = padded[0].unsqueeze(1).expand(-1, counts[0], -1, -1, -1)
        else:
            index = torch.repeat_interleave(torch.tensor(counts)).to(some.device)
            rows = torch.stack(padded, dim=1).index_select(1, index)
        layers: list[Any] = [_PrefixLayer(rows[2 * i], rows[2 * i + 1]) for i in range(rows.shape[0] // 2)]
        return Cache(layers=layers), length
