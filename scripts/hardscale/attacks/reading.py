"""Prompts scored as they are read: whole texts are tokenized again, whatever tokens a search made them of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hardscale.attacks.codec import Codec
from hardscale.attacks.packing import RowBlock
from hardscale.attacks.victim import Victim
from hardscale.models.flop_counter import FlopCounter
from hardscale.models.window import window

#: Losses that agree in so many digits are ranked as equal: what is left differs with the batch they were computed in.
_DIGITS = 6


@dataclass(frozen=True)
class Reading:
    """One whole prompt as a victim read it.

    Attributes:
        tokens: of the prompt, special ones included, without the target.
        n_forwarded: tokens of its forward, those of the target included.
        reused: leading ones that were stored.
        loss: of the victim.
        success: whether the victim does what is wanted.
    """

    tokens: list[int]
    n_forwarded: int
    reused: int
    loss: float
    success: bool

    @property
    def rank(self) -> float:
        """The loss as far as two computations of it agree."""
        return float(f"{self.loss:.{_DIGITS}g}")

    def pay(self, counter: FlopCounter) -> None:
        """Count the forward."""
        counter.forward(1, self.n_forwarded, self.reused)


def read(victim: Victim, codec: Codec, prompts: Sequence[tuple[int, str]]) -> list[Reading]:
    """Score whole prompts, all examples' together in packed forwards.

    Args:
        victim: the model under attack.
        codec: of its tokenizer.
        prompts: example and whole text of each.

    Returns:
        one reading a prompt, in order.

    Raises:
        AttackError: a prompt that is too long, or a loss that is not finite; names the example.
    """
    readings = []
    for (example, text), reading in zip(prompts, read_fitting(victim, codec, prompts), strict=True):
        if reading is None:
            [tokens], [ending] = codec.encode_prompts([text]), victim.endings_after([(example, text)])
            victim.check_total(example, len(tokens) + len(ending))
        else:
            readings.append(reading)
    return readings


def read_fitting(victim: Victim, codec: Codec, prompts: Sequence[tuple[int, str]]) -> list[Reading | None]:
    """Like :func:`read`, with None for a prompt that is too long for the model."""
    encoded = codec.encode_prompts([text for _, text in prompts])
    endings = victim.endings_after(prompts)
    limit = window(victim.model)
    together: dict[tuple[int, int, int, int], list[int]] = {}
    for i, ((example, _), tokens, ending) in enumerate(zip(prompts, encoded, endings, strict=True)):
        if len(tokens) + len(ending) > limit:
            continue
        reused = victim.cache.reusable(example, tokens)
        together.setdefault((example, len(tokens), reused, len(ending)), []).append(i)
    blocks = [
        RowBlock(example, torch.tensor([encoded[i] + endings[i] for i in rows]), reused, n_ending)
        for (example, _, reused, n_ending), rows in together.items()
    ]
    readings: dict[int, Reading] = {}
    for block, rows, score in zip(blocks, together.values(), victim.score(blocks), strict=True):
        for row, i in enumerate(rows):
            readings[i] = Reading(
                encoded[i], block.tokens.shape[1], block.reused, float(score.losses[row]), bool(score.successes[row])
            )
    return [readings.get(i) for i in range(len(prompts))]
