"""Between prompt text and tokens, in batches: encoding, decoding and where the attack stands in a prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from hardscale.attacks.places import Layout, laid_alone, places
from hardscale.attacks.vocabulary import vocabulary_of
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.settings.attack_base import Allowed


class Codec:
    """A fast tokenizer seen as two batched functions, without padding or truncation.

    Args:
        tokenizer: a ``PreTrainedTokenizerFast``.
        n_embeddings: rows of the victim's embedding matrix; token ids at or above are never inserted.
        closing: keep the special tokens that the tokenizer appends to a prompt (a classifier's ``[SEP]``); a language
            model must go on writing, so they are dropped there.
        allowed: which tokens an attack may insert.

    Raises:
        AttackError: the tokenizer has no fast backend.
    """

    def __init__(self, tokenizer: Any, n_embeddings: int, closing: bool = True, allowed: Allowed = "any") -> None:
        self._vocabulary = vocabulary_of(tokenizer)
        self._backend = self._vocabulary.backend
        pool = self._vocabulary.pool(allowed)
        #: Token ids that an attack may insert, ascending.
        self.allowed: list[int] = pool[: bisect_left(pool, n_embeddings)]
        #: How the special tokens are written; text that holds one is read as that token.
        self.markers: tuple[str, ...] = self._vocabulary.markers
        #: Whether a text alone is read with a space before it; then it tells nothing about the text inside a prompt.
        self.adds_space = self._vocabulary.adds_space
        #: Whole prompts of a language model; a rendered one may spell its BOS, which is then read once.
        self._open = None if closing else PromptTokens(tokenizer)
        #: Special tokens after the text of an encoded prompt.
        self.n_closing = self._vocabulary.n_trailing if closing else 0

    def same_tokens(self, tokenizer: Any) -> bool:
        """Whether another tokenizer gives every token that may be inserted the same id."""
        other = tokenizer.get_vocab()
        return all(other.get(self._vocabulary.tokens[index]) == index for index in self.allowed)

    def holds_marker(self, text: str) -> bool:
        """Whether a text spells a special token, which would be read as one."""
        return any(marker in text for marker in self.markers)

    def encode_alone(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts without special tokens."""
        self._vocabulary.plain()
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of whole prompts as the victim reads them, special tokens included."""
        if self._open is not None:
            return self._open.encode_all(texts)
        self._vocabulary.plain()
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=True)]

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of a whole prompt without closing special tokens, and the characters of it that each stands for."""
        if self._open is not None:
            return self._open.encode(text)
        self._vocabulary.plain()
        encoding = self._backend.encode(text, add_special_tokens=True)
        n = len(encoding.ids) - self._vocabulary.n_trailing
        return list(encoding.ids[:n]), list(encoding.offsets[:n])

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Texts of token sequences, each at the start of a text, where some decoders drop a space."""
        return self._backend.decode_batch([list(ids) for ids in tokens], skip_special_tokens=False)

    def spell(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Texts of token sequences inside a text: what they add to the text that they go on with."""
        return self._vocabulary.spell(tokens)

    def inserted(self, before: str, text: str, after: str) -> list[int]:
        """Tokens of the prompt ``before + text + after`` that hold characters of ``text``."""
        if not text:
            return []
        start, stop = len(before), len(before) + len(text)
        ids, spans = self.encode_spans(before + text + after)
        # The span of a token of white space alone may be cut to nothing.
        return [
            token
            for token, (first, last) in zip(ids, spans, strict=True)
            if first < stop and (last > start or first == last >= start)
        ]

    def layout(self, before: str, attack: Sequence[int], after: str) -> Layout | None:
        r"""The prompt ``before + attack text + after`` if it tokenizes cleanly, else None.

        Clean means that the whole prompt's tokens, read from its text, are those before the attack, the attack tokens
        and those after it; where a text alone is read as inside a prompt, also that the attack tokens alone survive
        decoding and encoding. The neighbors are read in context: a tokenizer may cut the end of ``before`` otherwise
        when nothing follows it ("\n\n" is one token at the end of a text and two before a word in GPT-2's rules), which
        leaves the attack tokens untouched.
        """
        return laid_alone(self, places(self, before, after)[0], attack)
