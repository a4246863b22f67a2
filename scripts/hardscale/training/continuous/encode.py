"""The behaviors and conversations of a task as token rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hardscale.errors import ModelError
from hardscale.models.chat import ChatTemplate, Encoded
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.tasks.chat import Behavior, Chat
from hardscale.training.continuous.rows import Conversation, Triple

#: What the tokens of a free suffix are before they are perturbed.
_SUFFIX_TEXT = "!"

Positions = Literal["prompt", "user", "suffix"]


def triples_of(
    behaviors: Sequence[Behavior],
    template: ChatTemplate,
    tokenizer: Any,
    max_tokens: int,
    positions: Positions = "prompt",
    n_suffix_tokens: int = 0,
) -> tuple[list[Triple], int]:
    """Every behavior with each of its targets, ordered by their keys.

    Args:
        behaviors: to train against.
        template: of the model.
        tokenizer: of the model.
        max_tokens: answers are cut to this length of prompt and answer; a prompt that leaves no room is left out.
        positions: what an attack may perturb.
        n_suffix_tokens: for ``suffix``: tokens added after the user's words.

    Returns:
        the triples, and how many were left out for their length.
    """
    suffix = PromptTokens(tokenizer).inside(_SUFFIX_TEXT)[-1:] * n_suffix_tokens
    triples, n_left_out = [], 0
    for behavior in sorted(behaviors, key=lambda behavior: behavior.row_id):
        safe, *harmful = template.encode_answers(behavior.request, [behavior.safe_answer, *behavior.targets])
        prompt, span = _prompt(safe, positions, suffix if positions == "suffix" else [])
        room = max_tokens - len(prompt)
        if room < 1:
            n_left_out += len(behavior.targets)
            continue
        for number, away in enumerate(harmful):
            triples.append(Triple((behavior.row_id, number), prompt, span, away.answer[:room], safe.answer[:room]))
    return triples, n_left_out


def _prompt(encoded: Encoded, positions: Positions, suffix: list[int]) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Prompt tokens, and which of them are perturbed."""
    prompt, (first, last) = encoded.prompt, encoded.user
    if positions == "suffix":
        return prompt[:last] + tuple(suffix) + prompt[last:], (last, last + len(suffix))
    return prompt, ((first, last) if positions == "user" else (0, len(prompt)))


class Talks:
    """Conversations, tokenized when first asked for: a training sees few of many.

    Args:
        chats: to draw from, in any order.
        template: of the model.
        max_tokens: longer ones are cut.
    """

    def __init__(self, chats: Sequence[Chat], template: ChatTemplate, max_tokens: int) -> None:
        self._chats = sorted(chats, key=lambda chat: chat.row_id)
        self._template, self._max_tokens = template, max_tokens
        self._known: dict[int, Conversation] = {}

    def __len__(self) -> int:
        return len(self._chats)

    def __getitem__(self, index: int) -> Conversation:
        """A conversation; without labels where the template refuses it or the cut leaves no answer."""
        if index not in self._known:
            chat = self._chats[index]
            try:
                ids, first = self._template.labeled(chat.messages, self._max_tokens)
            except ModelError:
                ids, first = [], 0
            self._known[index] = Conversation(chat.row_id, tuple(ids), first)
        return self._known[index]
