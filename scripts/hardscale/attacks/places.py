"""The place in a prompt where attack text goes: what its neighbors do to its tokens, and which tokens stand there.

The text of attack tokens depends on where they stand: it is what they add to the prompt there. Only the
whole prompt, tokenized from its text, says whether they are read as themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hardscale.attacks.codec import Codec

#: Texts put into a place to see what happens there; the first that does not join with a letter before it counts.
_PROBES = ("a", "!", "7", "Q")


@dataclass(frozen=True)
class Place:
    """A place between two texts.

    Attributes:
        before: text before it.
        after: text after it.
        head: tokens before the attack, leading special ones included.
        tail: tokens of ``after`` alone, closing special ones included.
        shared: what the attack's first token begins with although it is not of the attack text: a space that the
            tokenizer puts here (at the start of a text, after a special token) or the last character of ``before``.
    """

    before: str
    after: str
    head: tuple[int, ...]
    tail: tuple[int, ...]
    shared: str = ""

    def insert(self, spelled: str) -> str:
        """The attack text of tokens that spell this inside a text."""
        return spelled.removeprefix(self.shared)

    def whole(self, text: str) -> str:
        """The prompt with an attack text."""
        return self.before + text + self.after


@dataclass(frozen=True)
class Layout:
    """A tokenized prompt whose attack tokens stand apart from their neighbors.

    Attributes:
        before: text before the attack text.
        after: text after it.
        head: tokens before the attack, leading special tokens included.
        attack: the attack tokens; the whole prompt, read from its text, has them between head and tail.
        tail: tokens after the attack, trailing special tokens included.
        shared: as of :class:`Place`.
        text: the attack text.
        start: of a first attack text, where it comes from (:mod:`hardscale.attacks.starts`).
    """

    before: str
    after: str
    head: tuple[int, ...]
    attack: tuple[int, ...]
    tail: tuple[int, ...]
    shared: str = ""
    text: str = ""
    start: str = ""

    @property
    def n_tokens(self) -> int:
        """Tokens of the whole prompt."""
        return len(self.head) + len(self.attack) + len(self.tail)

    @property
    def place(self) -> Place:
        """Where the attack stands."""
        return Place(self.before, self.after, self.head, self.tail, self.shared)


def places(codec: Codec, before: str, after: str) -> list[Place]:
    """The place between two texts, and where ``before`` ends in a space also the one whose first token holds it.

    In most vocabularies a word has its space before it, so after a space hardly a token stands without it.
    """
    [alone], [tail] = codec.encode_prompts([before]), codec.encode_alone([after])
    cut = len(alone) - codec.n_closing
    closed = (*tail, *alone[cut:])
    head = tuple(alone[:cut])
    own = Place(before, after, head, closed)
    for probe in _PROBES:
        ids, spans = codec.encode_spans(before + probe)
        at = next((i for i, (_, last) in enumerate(spans) if last > len(before)), len(ids))
        [spelled] = codec.spell([ids[at:]])
        if spelled == probe:
            return [own]
        if spelled == " " + probe:
            other = Place(before, after, tuple(ids[:at]), closed, " ")
            return [other] if other.head == head else [own, other]
    return [own]


def gaps(codec: Codec, around: Sequence[tuple[str, str]]) -> list[Place]:
    """For each pair of texts the place between them in which the most tokens stand."""
    return [places(codec, before, after)[-1] for before, after in around]


def laid(codec: Codec, placed: Sequence[tuple[Place, Sequence[int]]]) -> list[Layout | None]:
    """The prompts with attack tokens in their places, for all at once; None where they are read as other tokens."""
    spelled = codec.spell([attack for _, attack in placed])
    texts = [place.insert(text) for (place, _), text in zip(placed, spelled, strict=True)]
    wholes = codec.encode_prompts([place.whole(text) for (place, _), text in zip(placed, texts, strict=True)])
    found: list[Layout | None] = []
    for (place, attack), text, written, whole in zip(placed, texts, spelled, wholes, strict=True):
        at = _find(codec, place, attack, whole) if text and written.startswith(place.shared) else None
        found.append(None if at is None else _cut(place, whole, at, len(attack), text))
    return found


def stands(codec: Codec, place: Place, attack: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether a whole prompt, as read from its text, has these attack tokens in their place."""
    return _find(codec, place, attack, list(whole)) is not None


def laid_alone(codec: Codec, place: Place, attack: Sequence[int]) -> Layout | None:
    """The prompt with attack tokens in a place if they stand there and, where that can be told, also alone."""
    if not survive_alone(codec, [attack])[0]:
        return None
    return laid(codec, [(place, attack)])[0]


def survive_alone(codec: Codec, rows: Sequence[Sequence[int]]) -> list[bool]:
    """Which token sequences, decoded and encoded by themselves, are the same (appendix on attacks, arXiv 2407.18213).

    Where the tokenizer puts a space before every text that tells nothing, and the whole prompt has to say it.
    """
    if codec.adds_space:
        return [True] * len(rows)
    return [ids == list(row) for row, ids in zip(rows, codec.encode_alone(codec.spell(rows)), strict=True)]


def _find(codec: Codec, place: Place, attack: Sequence[int], whole: list[int]) -> int | None:
    """Index of the attack tokens in a prompt's tokens, None if they do not stand in their place."""
    n, wanted = len(attack), list(attack)
    last = len(whole) - codec.n_closing - n
    usual = len(place.head)
    if usual <= last and tuple(whole[:usual]) == place.head and whole[usual : usual + n] == wanted:
        return usual
    some = [at for at in range(last + 1) if whole[at : at + n] == wanted]
    if not some:
        return None
    head, *others = codec.decode([place.head, *(whole[:at] for at in some)])
    return next((at for at, text in zip(some, others, strict=True) if text == head), None)


def _cut(place: Place, whole: list[int], at: int, n: int, text: str) -> Layout:
    parts = (tuple(whole[:at]), tuple(whole[at : at + n]), tuple(whole[at + n :]))
    return Layout(place.before, place.after, *parts, shared=place.shared, text=text)
