"""A tokenizer's vocabulary as attacks see it: which tokens they may insert, and what each adds to a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from hardscale.errors import AttackError
from hardscale.settings.attack_base import Allowed

#: One of these stands before tokens whose text is asked for: some decoders drop a space at the start of a text.
_ANCHORS = ("a", "x", "0")
#: A byte for which a vocabulary of the SentencePiece kind has no character.
_RAW_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Vocabulary:
    """Tables of one tokenizer; :func:`vocabulary_of` keeps them.

    Args:
        tokenizer: a ``PreTrainedTokenizerFast``.

    Attributes:
        backend: of the tokenizer.
        tokens: how each token is written in the vocabulary, special ones included, by id.
        special: ids of special tokens.
        n_leading: special tokens that the tokenizer puts before a text.
        n_trailing: ... and after it.
        adds_space: whether a text is read with a space before it that it does not have, as tokenizers of the
            SentencePiece kind read the beginning of a text and what follows a special token.

    Raises:
        AttackError: the tokenizer has no fast backend.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise AttackError(
                f"{type(tokenizer).__name__}: attacks need a fast tokenizer (tokenizer.json); convert it first"
            )
        self.backend = tokenizer.backend_tokenizer
        self.special = set(tokenizer.all_special_ids)
        self.special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.tokens: dict[int, str] = {
            index: token for token, index in self.backend.get_vocab(with_added_tokens=True).items()
        }
        self.plain()
        mask = self.backend.encode("a", add_special_tokens=True).special_tokens_mask
        body = [i for i, flag in enumerate(mask) if not flag]
        self.n_leading, self.n_trailing = (body[0], len(mask) - 1 - body[-1]) if body else (0, 0)
        self._anchor, self._anchor_text = self._find_anchor()
        self.adds_space = self.spell([self._encode("a")]) == [" a"]

    def plain(self) -> None:
        """No padding and no truncation: states of the shared backend that any earlier tokenizer call may have set."""
        self.backend.no_padding()
        self.backend.no_truncation()

    def spell(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """What token sequences add to a text that they go on with; a space that they begin with is kept."""
        whole = self.backend.decode_batch([[*self._anchor, *row] for row in rows], skip_special_tokens=False)
        return [text.removeprefix(self._anchor_text) for text in whole]

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """How the special tokens are written; text that holds one is read as that token."""
        return tuple(sorted({self.tokens[i] for i in self.special if i in self.tokens} - {""}))

    @cached_property
    def ordinary(self) -> list[int]:
        """Ids that are not special, ascending."""
        return sorted(self.tokens.keys() - self.special)

    @cached_property
    def printable_ascii(self) -> list[int]:
        """Those whose text is of printable ASCII characters alone, ascending; raw bytes are none of them."""
        some = [index for index in self.ordinary if not _RAW_BYTE.fullmatch(self.tokens[index])]
        texts = self.spell([[index] for index in some])
        return [
            index for index, text in zip(some, texts, strict=True) if text and text.isascii() and text.isprintable()
        ]

    def pool(self, allowed: Allowed) -> list[int]:
        """Ids that an attack with this setting may insert, ascending."""
        return self.printable_ascii if allowed == "printable_ascii" else self.ordinary

    def _encode(self, text: str) -> list[int]:
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def _find_anchor(self) -> tuple[list[int], str]:
        """A token that ends in a letter, and its text; nothing where the vocabulary has none."""
        for text in _ANCHORS:
            ids = self._encode(text)[-1:]
            found = self.backend.decode(ids, skip_special_tokens=False)
            if found.strip() == text and not set(ids) & self.special:
                return ids, found
        return [], ""


_known: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """The vocabulary of a tokenizer, made once; again after tokens were added to it.

    Raises:
        AttackError: the tokenizer has no fast backend.
    """
    try:
        known = _known.get(tokenizer)
    except TypeError:  # nothing that could be a tokenizer
        known = None
    if known is not None and _is_current(known, tokenizer):
        return known
    made = Vocabulary(tokenizer)
    _known[tokenizer] = made
    return made


def _is_current(known: Vocabulary, tokenizer: Any) -> bool:
    return (
        known.backend is tokenizer.backend_tokenizer
        and len(known.tokens) == known.backend.get_vocab_size(with_added_tokens=True)
        and known.special.issuperset(tokenizer.all_special_ids)
    )
