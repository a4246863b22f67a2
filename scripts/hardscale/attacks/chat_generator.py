"""A helper model that attacks talk to: many conversations at once, each reply the same as alone, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hardscale.attacks.chat_text import Message, render
from hardscale.attacks.results import Helper
from hardscale.models.counts import model_shape
from hardscale.models.flop_counter import FlopCounter
from hardscale.models.flops import exact_forward_flops
from hardscale.models.generate import Sampling, reply
from hardscale.models.window import window


@dataclass(frozen=True)
class Answer:
    """A reply and its cost.

    Attributes:
        text: without the opening it was begun with; None where the conversation was too long for the model.
        n_tokens: as many tokens of the victim as cost the same by the papers' convention.
        n_passes: 1, or 0 where nothing was computed.
        flops: operations as computed.
    """

    text: str | None = None
    n_tokens: float = 0.0
    n_passes: int = 0
    flops: float = 0.0


def charge(counter: FlopCounter, answers: Iterable[Answer]) -> None:
    """Note what answers cost."""
    for answer in answers:
        counter.elsewhere(answer.n_tokens, answer.n_passes, answer.flops)


class ChatGenerator:
    """A helper model, and how its size compares with the victim's.

    Args:
        helper: the model.
        victim: the model under attack.
    """

    def __init__(self, helper: Helper, victim: Any) -> None:
        self._model, self._tokenizer = helper.model, helper.tokenizer
        self._shape = model_shape(helper.model.config)
        sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (helper.model, victim)]
        self._ratio = sizes[0] / sizes[1]

    @property
    def tokenizer(self) -> Any:
        """The helper's tokenizer."""
        return self._tokenizer

    def length(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def ask(
        self,
        conversations: Sequence[Sequence[Message]],
        max_new_tokens: int,
        keys: Sequence[int],
        *,
        opening: str = "",
        temperature: float | None = 1.0,
        top_p: float = 1.0,
    ) -> list[Answer]:
        """Replies to conversations.

        Args:
            conversations: (role, content) pairs each; a system turn may be the first.
            max_new_tokens: of a reply.
            keys: the seed of each reply's random stream.
            opening: what every reply is begun with.
            temperature: of sampling; None for the likeliest tokens.
            top_p: of sampling.
        """
        prompts = [render(self._tokenizer, messages, opening) for messages in conversations]
        some = [i for i, prompt in enumerate(prompts) if 0 < len(prompt) < window(self._model)]
        answers = [Answer() for _ in prompts]
        sample = None if temperature is None else Sampling(temperature=temperature, top_p=top_p)
        written = reply(
            self._model,
            self._tokenizer,
            [prompts[i] for i in some],
            max_new_tokens,
            sample=sample,
            keys=[keys[i] for i in some],
        )
        for i, text in zip(some, written, strict=True):
            n_new = self.length(text)
            n_tokens = len(prompts[i]) + n_new
            flops = exact_forward_flops(self._shape, n_tokens, 0, n_new * self._shape.vocab)
            answers[i] = Answer(text, n_tokens * self._ratio, 1, flops)
        return answers
