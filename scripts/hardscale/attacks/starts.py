"""The first attack text of a search: what the study says, repeated so that it stands in its place, or built there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from hardscale.attacks.codec import Codec
from hardscale.attacks.places import Layout, Place, laid, laid_alone, places, survive_alone

#: How a first text came about: the study's text repeated as it is, repeated with a space before each, built token by
#: token, or the tokens that the caller gave.
Start = Literal["said", "separated", "built", "given"]

#: What a search begins from where its settings say nothing else.
FIRST_TEXT = "@&"
#: Prompts read at most while a first text is built (appendix on attacks of arXiv 2407.18213: so many tries).
MOST_TRIES = 10_000
#: Tokens proposed at once for the next position.
_AT_ONCE = 48
#: Dead ends after which tokens of the study's text are no longer proposed first.
_MOST_DEAD_ENDS = 3


def first_layout(codec: Codec, before: str, after: str, text: str, n_tokens: int, rng: random.Random) -> Layout | None:
    """The prompt with a first attack text of ``n_tokens`` tokens; None where none was found.

    In this order: ``text`` repeated; ``text`` repeated with a space before each, which the first attack token then
    holds; a text built token by token, of tokens of ``text`` where they stand and of random ones elsewhere. The same
    arguments and state of ``rng`` give the same text.
    """
    around = places(codec, before, after)
    for start, tokens in _repeated(codec, around, text, n_tokens):
        # The usual place is asked by the codec itself, which looks for one alone.
        found = codec.layout(before, tokens, after)
        for place in around[1:]:
            found = found or laid_alone(codec, place, tokens)
        if found is not None:
            return replace(found, start=start)
    said = [token for _, tokens in _repeated(codec, around, text, n_tokens) for token in tokens]
    for place in reversed(around):
        grown = _grown(codec, place, list(dict.fromkeys(said)), n_tokens, rng)
        if grown is not None:
            return replace(grown, start="built")
    return None


def given_layout(codec: Codec, before: str, after: str, tokens: Sequence[int]) -> Layout | None:
    """The prompt with the tokens of an earlier result; None where they do not stand any more."""
    for place in places(codec, before, after):
        found = laid_alone(codec, place, tokens)
        if found is not None:
            return replace(found, start="given")
    return None


def _repeated(codec: Codec, around: Sequence[Place], text: str, n_tokens: int) -> Iterator[tuple[Start, list[int]]]:
    """Tokens of ``text`` repeated without and with a space before each, cut to length.

    They are read inside a text: alone where the tokenizer reads them so, else in their place. Those that are too few,
    and those that say something else (a vocabulary may not know the text, or know it in lower case alone), are not.
    """
    for start, unit in (("said", text), ("separated", " " + text)):
        whole = unit * n_tokens
        if not codec.adds_space:
            rows = codec.encode_alone([whole])
        else:
            rows = []
            for place in around:
                [prompt] = codec.encode_prompts([place.before + place.insert(whole)])
                if tuple(prompt[: len(place.head)]) == place.head:
                    rows.append(prompt[len(place.head) : len(prompt) - codec.n_closing])
        for tokens in rows:
            if len(tokens) >= n_tokens and _says(codec, tokens[:n_tokens], whole):
                yield start, tokens[:n_tokens]  # type: ignore[misc]


def _says(codec: Codec, tokens: Sequence[int], whole: str) -> bool:
    """Whether tokens spell the beginning of a text, spaces aside."""
    [spelled] = codec.spell([tokens])
    return "".join(whole.split()).startswith("".join(spelled.split()))


def _grown(codec: Codec, place: Place, liked: Sequence[int], n_tokens: int, rng: random.Random) -> Layout | None:
    """Attack tokens added one after another, each time the whole prompt read; a dead end gives some of them back."""
    tokens: list[int] = []
    known: Layout | None = None
    n_tried = n_dead = 0
    while len(tokens) < n_tokens and n_tried < MOST_TRIES:
        some = rng.sample(codec.allowed, min(_AT_ONCE, len(codec.allowed)))
        # After several dead ends, the same tokens are not proposed first again.
        for proposed in (liked, some) if n_dead < _MOST_DEAD_ENDS else (some,):
            rows = [[*tokens, token] for token in proposed]
            n_tried += len(rows)
            alone = [row for row, stands in zip(rows, survive_alone(codec, rows), strict=True) if stands]
            found = next((layout for layout in laid(codec, [(place, row) for row in alone]) if layout), None)
            if found is not None:
                break
        if found is None:
            n_dead += 1
            tokens = tokens[: max(len(tokens) - n_dead, 0)]
        else:
            tokens, known = list(found.attack), found
    return known if len(tokens) == n_tokens else None


_NOTE = "n_start_"


def start_notes(layout: Layout) -> dict[str, float]:
    """Where the first text came from, as a count that sums over examples."""
    return {f"{_NOTE}{layout.start}": 1.0}


def start_of(notes: Mapping[str, float]) -> str:
    """Where the first text came from, as :func:`start_notes` noted it; ``""`` of an attack that has none."""
    return next((name.removeprefix(_NOTE) for name in notes if name.startswith(_NOTE)), "")
