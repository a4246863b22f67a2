"""Target texts as they follow prompts: tokens of the whole, never of the target alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from hardscale.models.prompt_tokens import PromptTokens

if TYPE_CHECKING:
    from hardscale.attacks.victim import Scores, Victim


class Followed:
    """Tokens of targets behind prompts.

    What stands before the last marker of a prompt (a token that is cut out of texts before they are read) does not
    change how the text behind it is read. Prompts that end alike from there on are read once.

    Args:
        tokenizer: a fast tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._made: PromptTokens | None = None
        #: For each example the end of its prompts from the last marker on; "" where they have none.
        self._tails: list[str] = []
        self._known: dict[tuple[str, str], list[int]] = {}

    @property
    def _tokens(self) -> PromptTokens:
        if self._made is None:
            self._made = PromptTokens(self._tokenizer)
        return self._made

    def begin(self, prompts: Sequence[str]) -> None:
        """Note how the prompts of the examples end."""
        marks = {index for index, token in self._tokenizer.added_tokens_decoder.items() if not token.normalized}
        self._tails = []
        for prompt in prompts:
            ids, spans = self._tokens.encode(prompt)
            starts = [start for token, (start, _) in zip(ids, spans, strict=True) if token in marks]
            self._tails.append(prompt[starts[-1] :] if starts else "")

    def tokens(self, asked: Sequence[tuple[int, str, str]]) -> list[list[int]]:
        """Tokens of targets.

        Args:
            asked: (example, whole prompt, target).
        """
        places = [(self._end(example, prompt), target) for example, prompt, target in asked]
        new = list(dict.fromkeys(place for place in places if place not in self._known))
        found = dict(zip(new, self._tokens.following(new), strict=True))
        self._known |= {place: ending for place, ending in found.items() if place[0] in self._tails}
        return [list(found[place] if place in found else self._known[place]) for place in places]

    def _end(self, example: int, prompt: str) -> str:
        """The end of a prompt that decides how a text behind it is read; all of it where that is not known."""
        tail = self._tails[example] if example < len(self._tails) else ""
        return tail if tail and prompt.endswith(tail) else prompt


def score_texts(victim: Victim, asked: Sequence[tuple[int, torch.Tensor, Sequence[str]]]) -> list[Scores]:
    """Losses and successes of prompts, each with its example's target as it follows the prompt's text.

    Args:
        victim: the model under attack.
        asked: example, tokens of whole prompts of one length, shape ``(n, length)``, and their texts.

    Returns:
        scores for each entry, its rows in order.
    """
    endings = iter(victim.endings_after([(example, text) for example, _, texts in asked for text in texts]))
    blocks, places = [], []
    for number, (example, tokens, texts) in enumerate(asked):
        alike: dict[tuple[int, ...], list[int]] = {}
        for row in range(len(texts)):
            alike.setdefault(tuple(next(endings)), []).append(row)
        for ending, rows in alike.items():
            blocks.append(victim.block(example, tokens[rows], ending))
            places.append((number, rows))
    found = [_empty(len(texts)) for _, _, texts in asked]
    for (number, rows), scores in zip(places, victim.score(blocks), strict=True):
        found[number].losses[rows] = scores.losses
        found[number].successes[rows] = scores.successes
    return found


def _empty(n: int) -> Scores:
    from hardscale.attacks.victim import Scores

    return Scores(torch.empty(n), torch.empty(n, dtype=torch.bool))
