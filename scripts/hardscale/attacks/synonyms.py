"""Words that a model takes for alike: neighbors in its own table of input embeddings."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import torch

from hardscale.attacks.codec import Codec
from hardscale.attacks.victim import Victim, whole_weight

#: A whole word of three letters or more, in one of three forms, with or without the space before it.
_WORD = re.compile(r"(?P<space> ?)(?:(?P<lower>[a-z]{3,})|(?P<title>[A-Z][a-z]{2,})|(?P<upper>[A-Z]{3,}))")
#: Stands before a word, so that tokenizers that drop a leading space at the start of a text show it.
_ANCHOR = "a"
#: Words looked up at once.
_CHUNK = 64

Form = tuple[bool, str]


def form_of(text: str) -> Form | None:
    """Whether a space leads, and ``lower``, ``title`` or ``upper``; None if the text is no whole word."""
    match = _WORD.fullmatch(text)
    return (bool(match["space"]), str(match.lastgroup)) if match else None


class Synonyms:
    """Nearest neighbors by cosine among the words that are one token of a victim's tokenizer.

    A word is replaced by words of its own form only: the same space before it and the same capitals. The begin of a
    longer word counts as a word where it is a token of letters, as nothing in a vocabulary tells the two apart.

    Args:
        victim: whose embeddings are compared.
        codec: its tokenizer.
        n: neighbors of a word.
        never: words, in lower case, that are neither replaced nor proposed.
    """

    def __init__(self, victim: Victim, codec: Codec, n: int = 5, never: Collection[str] = ()) -> None:
        self._n = n
        self._never = frozenset(never)
        self._known: dict[str, tuple[str, ...]] = {}
        self._groups: dict[Form, tuple[list[str], torch.Tensor]] = {}
        found: dict[Form, list[tuple[str, int]]] = {}
        for token, text in _single_tokens(codec):
            form = form_of(text)
            if form and text.strip().lower() not in self._never:
                found.setdefault(form, []).append((text, token))
        with whole_weight(victim.embedding.weight) as embeddings:
            for form, pairs in found.items():
                index = torch.tensor([token for _, token in pairs], device=embeddings.device)
                rows = torch.nn.functional.normalize(embeddings[index].float(), dim=1)
                self._groups[form] = ([text for text, _ in pairs], rows)
        self._index = {text: i for texts, _ in self._groups.values() for i, text in enumerate(texts)}

    def of(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Synonyms of words, each written like the word itself; none for a word that is not one token."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        by_form: dict[Form, list[str]] = {}
        for text in new:
            form = form_of(text)
            if form and text in self._index:
                by_form.setdefault(form, []).append(text)
            else:
                self._known[text] = ()
        for form, wanted in by_form.items():
            for start in range(0, len(wanted), _CHUNK):
                self._look_up(form, wanted[start : start + _CHUNK])
        return [self._known[text] for text in texts]

    def _look_up(self, form: Form, wanted: Sequence[str]) -> None:
        texts, rows = self._groups[form]
        index = torch.tensor([self._index[text] for text in wanted], device=rows.device)
        likeness = rows[index] @ rows.T  # (wanted, words of the form)
        likeness[torch.arange(len(wanted), device=rows.device), index] = -torch.inf
        n = min(self._n, len(texts) - 1)
        nearest = likeness.argsort(dim=1, descending=True, stable=True)[:, :n].tolist()
        for text, neighbors in zip(wanted, nearest, strict=True):
            self._known[text] = tuple(texts[i] for i in neighbors)


def _single_tokens(codec: Codec) -> list[tuple[int, str]]:
    """Token ids and their texts behind another word, for those that the tokenizer reads back as one token."""
    [anchor] = codec.encode_alone([_ANCHOR])
    [alone] = codec.decode([anchor])
    texts = [text[len(alone) :] for text in codec.decode([[*anchor, token] for token in codec.allowed])]
    some = [(token, text) for token, text in zip(codec.allowed, texts, strict=True) if form_of(text)]
    # A word without a space would join the anchor, so it is read alone.
    asked = [_ANCHOR + text if text.startswith(" ") else text for _, text in some]
    wanted = [[*anchor, token] if text.startswith(" ") else [token] for token, text in some]
    read = codec.encode_alone(asked)
    return [pair for pair, ids, one in zip(some, read, wanted, strict=True) if ids == one]
