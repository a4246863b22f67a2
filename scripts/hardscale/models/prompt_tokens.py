"""A fast tokenizer as chat prompts need it: special tokens at the front alone, and where each token stands."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase


class PromptTokens:
    """Tokens of prompts that a language model is to go on with.

    Args:
        tokenizer: a fast tokenizer.

    Attributes:
        leading: text of the special tokens that the tokenizer puts before every text, ``""`` for none.
        adds_space: whether it puts a space before every text, as those of the SentencePiece kind do.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._backend: Any = tokenizer.backend_tokenizer
        self._reset()
        encoding = self._backend.encode("a", add_special_tokens=True)
        body = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        first, last = (body[0], body[-1]) if body else (0, len(encoding.ids) - 1)
        self.leading = "".join(encoding.tokens[:first])
        self._n_trailing = len(encoding.ids) - 1 - last
        self.adds_space = encoding.tokens[first].startswith("▁") if body else False

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens with the leading special ones, and the characters of ``text`` that each stands for."""
        self._reset()
        encoding = self._backend.encode(text, add_special_tokens=True)
        n = len(encoding.ids) - self._n_trailing
        return list(encoding.ids[:n]), list(encoding.offsets[:n])

    def plain(self, text: str) -> list[int]:
        """Tokens without special ones."""
        self._reset()
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _reset(self) -> None:
        # Both are states of the shared backend that any earlier tokenizer call may have set.
        self._backend.no_padding()
        self._backend.no_truncation()
