"""Between prompt text and tokens, in batches: encoding, decoding and where the attack stands in a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hardscale.errors import AttackError


@dataclass(frozen=True)
class Layout:
    """A tokenised prompt whose attack tokens stand apart from their neighbours.

    Attributes:
        before: text before the attack text.
        after: text after it.
        head: tokens before the attack, leading special tokens included.
        attack: the attack tokens; their decoded text encodes to them again.
        tail: tokens after the attack, trailing special tokens included.
    """

    before: str
    after: str
    head: tuple[int, ...]
    attack: tuple[int, ...]
    tail: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens of the whole prompt."""
        return len(self.head) + len(self.attack) + len(self.tail)


class Codec:
    """A fast tokenizer seen as two batched functions, without padding or truncation.

    Args:
        tokenizer: a ``PreTrainedTokenizerFast``.
        n_embeddings: rows of the victim's embedding matrix; token ids at or above are never inserted.
        closing: keep the special tokens that the tokenizer appends to a prompt (a classifier's ``[SEP]``); a language
            model must go on writing, so they are dropped there.

    Raises:
        AttackError: the tokenizer has no fast backend.
    """

    def __init__(self, tokenizer: Any, n_embeddings: int, closing: bool = True) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise AttackError(
                f"{type(tokenizer).__name__}: attacks need a fast tokenizer (tokenizer.json); convert it first"
            )
        self._backend = tokenizer.backend_tokenizer
        special = set(tokenizer.all_special_ids)
        special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        known = set(self._backend.get_vocab(with_added_tokens=True).values())
        #: Token ids that an attack may insert, ascending.
        self.allowed: list[int] = sorted(index for index in known - special if index < n_embeddings)
        self._spelled = {index: token for token, index in self._backend.get_vocab(with_added_tokens=True).items()}
        #: How the special tokens are written; text that holds one is read as that token.
        self.markers: tuple[str, ...] = tuple(sorted({self._spelled[i] for i in special if i in self._spelled} - {""}))
        self._n_leading, self._n_trailing = self._wrapping()
        self._closing = closing
        #: Special tokens after the text of an encoded prompt.
        self.n_closing = self._n_trailing if closing else 0

    def _wrapping(self) -> tuple[int, int]:
        """How many special tokens the tokenizer puts before and after a text."""
        self._plain()
        mask = self._backend.encode("a", add_special_tokens=True).special_tokens_mask
        body = [i for i, flag in enumerate(mask) if not flag]
        return (body[0], len(mask) - 1 - body[-1]) if body else (0, 0)

    def _plain(self) -> None:
        # Both are states of the shared backend that any earlier tokenizer call may have set.
        self._backend.no_padding()
        self._backend.no_truncation()

    def same_tokens(self, tokenizer: Any) -> bool:
        """Whether another tokenizer gives every token that may be inserted the same id."""
        other = tokenizer.get_vocab()
        return all(other.get(self._spelled[index]) == index for index in self.allowed)

    def holds_marker(self, text: str) -> bool:
        """Whether a text spells a special token, which would be read as one."""
        return any(marker in text for marker in self.markers)

    def encode_alone(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts without special tokens."""
        self._plain()
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of whole prompts as the victim reads them, special tokens included."""
        self._plain()
        encoded = [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=True)]
        if self._closing or not self._n_trailing:
            return encoded
        return [ids[: -self._n_trailing] for ids in encoded]

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Texts of token sequences."""
        return self._backend.decode_batch([list(ids) for ids in tokens], skip_special_tokens=False)

    def layout(self, before: str, attack: Sequence[int], after: str) -> Layout | None:
        r"""The prompt ``before + decode(attack) + after`` if it tokenises cleanly, else None.

        Clean means that the attack tokens survive decoding and encoding, and that the whole prompt's tokens are those
        before the attack, the attack tokens and those after it. The neighbours are read in context: a tokenizer may
        cut the end of ``before`` otherwise when nothing follows it ("\n\n" is one token at the end of a text and two
        before a word in GPT-2's rules), which leaves the attack tokens untouched.
        """
        [text] = self.decode([attack])
        alone, start, end = self.encode_alone([text, before, after])
        if not text or alone != list(attack):
            return None
        [whole] = self.encode_prompts([before + text + after])
        body = whole[self._n_leading : len(whole) - self.n_closing]
        at = self._find(body, alone, (start, end), (before, after))
        if at is None:
            return None
        first = self._n_leading + at
        last = first + len(alone)
        return Layout(before, after, tuple(whole[:first]), tuple(alone), tuple(whole[last:]))

    def _find(
        self, body: list[int], attack: list[int], apart: tuple[list[int], list[int]], texts: tuple[str, str]
    ) -> int | None:
        """Index of the attack tokens in a prompt's tokens, None if they do not stand apart."""
        start, end = apart
        if body == start + attack + end:
            return len(start)
        n = len(attack)
        for at in range(len(body) - n + 1):
            if body[at : at + n] == attack and self.decode([body[:at], body[at + n :]]) == list(texts):
                return at
        return None
