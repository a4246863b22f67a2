"""A fast tokenizer as prompts need it: special tokens at the front once, where each token stands, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

#: Texts whose end joins with hardly anything: what follows one of them is read as inside any text.
_NEUTRAL = ("a", ".", "!", ")", "7", "\n", " ")


class PromptTokens:
    """Tokens of prompts that a language model is to go on with.

    A text that spells the special tokens which the tokenizer puts before every text (a rendered chat that begins with
    BOS) is read as it stands, so that they come once.

    Args:
        tokenizer: a fast tokenizer.

    Attributes:
        leading: text of the special tokens that the tokenizer puts before every text, ``""`` for none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._backend: Any = tokenizer.backend_tokenizer
        self._reset()
        encoding = self._backend.encode("a", add_special_tokens=True)
        body = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        first, last = (body[0], body[-1]) if body else (0, len(encoding.ids) - 1)
        self.leading = "".join(encoding.tokens[:first])
        self._n_trailing = len(encoding.ids) - 1 - last

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens with the leading special ones, and the characters of ``text`` that each stands for."""
        self._reset()
        added = not self.spells_leading(text)
        encoding = self._backend.encode(text, add_special_tokens=added)
        n = len(encoding.ids) - self._n_trailing * added
        return list(encoding.ids[:n]), list(encoding.offsets[:n])

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of many texts, as :meth:`encode` gives them."""
        self._reset()
        found: list[list[int]] = [[] for _ in texts]
        for added in (True, False):
            some = [i for i, text in enumerate(texts) if self.spells_leading(text) != added]
            encoded = self._backend.encode_batch_fast([texts[i] for i in some], add_special_tokens=added)
            for i, encoding in zip(some, encoded, strict=True):
                found[i] = list(encoding.ids[: len(encoding.ids) - self._n_trailing * added])
        return found

    def spells_leading(self, text: str) -> bool:
        """Whether a text begins with the special tokens that the tokenizer would put there."""
        return bool(self.leading) and text.startswith(self.leading)

    def droppable(self, text: str) -> str:
        """The special tokens that a text begins with, where leaving them to the tokenizer changes no token, else "".

        A tokenizer may put a space before the first words alone; where special tokens are spelled, words come later.
        """
        if not self.spells_leading(text):
            return ""
        bare = text.removeprefix(self.leading)
        return self.leading if self.encode(bare)[0] == self.encode(text)[0] else ""

    def following(self, pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Tokens by which a model that goes on with a prompt writes a text behind it.

        They are the tokens of both together behind those of the prompt. Where the beginning of the text joins with the
        prompt's end into one token, which can no longer be written, they are the text's tokens inside another text.

        Args:
            pairs: (prompt, text behind it).
        """
        prompts = list(dict.fromkeys(prompt for prompt, _ in pairs))
        alone = dict(zip(prompts, self.encode_all(prompts), strict=True))
        wholes = self.encode_all([prompt + text for prompt, text in pairs])
        found = []
        for (prompt, text), whole in zip(pairs, wholes, strict=True):
            ids = alone[prompt]
            found.append(whole[len(ids) :] if whole[: len(ids)] == ids else self.inside(text))
        return found

    def begin(self, prompt: str, text: str, n_tokens: int) -> str:
        """The part of a text that its first tokens behind a prompt hold, at most so many; no character is cut."""
        [ids], (whole, spans) = self.encode_all([prompt]), self.encode(prompt + text)
        # A marker at the prompt's end may swallow white space behind it; it is still a token of the prompt.
        apart = spans[len(ids) :] if whole[: len(ids)] == ids else spans
        behind = [(start, stop) for start, stop in apart if stop > len(prompt)]
        for n in range(min(n_tokens, len(behind)), 0, -1):
            if n == len(behind) or behind[n][0] >= behind[n - 1][1]:
                return text[: behind[n - 1][1] - len(prompt)]
        return ""

    def inside(self, text: str) -> list[int]:
        """Tokens of a text inside another one."""
        for neutral in _NEUTRAL:
            [ids, whole] = self._plain([neutral, neutral + text])
            if whole[: len(ids)] == ids:
                return whole[len(ids) :]
        return self._plain([text])[0]

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        self._reset()
        return [list(one.ids) for one in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _reset(self) -> None:
        # Both are states of the shared backend that any earlier tokenizer call may have set.
        self._backend.no_padding()
        self._backend.no_truncation()
