"""Random tokens in the modifiable chunk of some training examples: a named deviation from the paper."""

from __future__ import annotations

import random

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.codec import Codec
from hardscale.settings.training import ExposureSettings
from hardscale.tasks.example import Example


class Exposure:
    """Puts k ~ U{1..max_tokens} uniform random tokens at the end of the modifiable chunk, with some probability.

    The draw is keyed by (epoch, example), so it does not depend on the order of examples or the number of ranks.

    Args:
        codec: gives the tokens that may be inserted and decodes them.
        settings: probability and largest number of tokens.
        seed: of all draws.
    """

    def __init__(self, codec: Codec, settings: ExposureSettings, seed: int) -> None:
        self._codec, self._settings, self._seed = codec, settings, seed

    def texts(self, examples: list[Example], epoch: int) -> list[str]:
        """The examples' texts as this epoch shows them."""
        if not self._settings.probability:
            return [example.text for example in examples]
        drawn = [self._draw(epoch, example.example_id) for example in examples]
        inserted = self._codec.spell(drawn)
        return [
            example.with_text_inserted(text, "suffix") if tokens else example.text
            for example, tokens, text in zip(examples, drawn, inserted, strict=True)
        ]

    def _draw(self, epoch: int, example_id: int) -> list[int]:
        rng = random.Random(derive_seed(self._seed, "exposure", epoch, example_id))
        if rng.random() >= self._settings.probability:
            return []
        return rng.choices(self._codec.allowed, k=rng.randint(1, self._settings.max_tokens))
