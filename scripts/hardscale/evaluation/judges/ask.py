"""Asking a judging model: hostile text is defused, marked off and clipped before the model reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from hardscale.attacks.chat_text import render
from hardscale.errors import AttackError
from hardscale.evaluation.device import load_on_device
from hardscale.evaluation.judges.base import Item, Judgment
from hardscale.models.chat import ChatTemplate
from hardscale.models.generate import reply
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.models.window import window
from hardscale.runtime.memory import Budget
from hardscale.tasks.wordings import Wording

#: Marks by which chat formats tell who speaks. In a judged text they could give the judge orders.
_MARKERS = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
    r"|^[ \t]*#{1,6}[ \t]*(?:instructions?|response|human|assistant|user|system)\b",
    re.IGNORECASE | re.MULTILINE,
)
#: Raw verdicts of a judge that wrote nothing, or cannot read the question; an empty one means that it was not asked.
NOTHING, TOO_LONG = "(nothing)", "(too long to read)"


class AskedJudge:
    """A judge that asks a language model: a question in our own words and a reading of the answer.

    Args:
        name: what the judge is called in tables.
        asker: the judging model.
        wording: the words it was trained on; our own when absent.
    """

    question: Callable[[Item], str]
    verdict: Callable[[str], Judgment]

    def __init__(self, name: str, asker: Asker, wording: Wording | None = None) -> None:
        self.name, self._asker, self._wording = name, asker, wording

    def judge(self, items: Sequence[Item]) -> list[Judgment]:
        """Judge all items; an answer that cannot be read is no verdict."""
        return [self.verdict(raw) for raw in self._asker.ask(items, self.question, self._wording)]


class Asker:
    """A judging model and its tokenizer.

    Args:
        folder: ``base_model`` or ``model`` artifact.
        max_completion_tokens: a longer reply is cut there, by this tokenizer.
        max_new_tokens: of an answer.
    """

    def __init__(self, folder: Path, max_completion_tokens: int, max_new_tokens: int) -> None:
        self._model, self._tokenizer = load_on_device(folder)
        self._longest, self._max_new_tokens = max_completion_tokens, max_new_tokens
        self._budget = Budget()

    def ask(self, items: Sequence[Item], question: Callable[[Item], str], wording: Wording | None) -> list[str]:
        """The model's answer about each item, greedily decoded.

        Args:
            items: what is judged; their texts are defused and their replies clipped before ``question`` sees them.
            question: the question in our own words, sent through the model's chat template where it has one.
            wording: whole prompts with places for the texts, sent as they are, instead.
        """
        prompts = self._prompts(items, question, wording)
        fits = self._fitting(prompts)
        answers = reply(
            self._model,
            self._tokenizer,
            [prompts[i] for i in fits],
            self._max_new_tokens,
            budget=self._budget,
            keys=[items[i].key for i in fits],
        )
        found = dict(zip(fits, answers, strict=True))
        return [(found[i] or NOTHING) if i in found else TOO_LONG for i in range(len(items))]

    def next_token(self, items: Sequence[Item], wording: Wording, tokens: Sequence[str]) -> list[list[float] | None]:
        """Probabilities, among all tokens, that some tokens come next after the prompt about each item.

        Args:
            items: see :meth:`ask`.
            wording: see :meth:`ask`.
            tokens: as the vocabulary spells them.

        Returns:
            a list as long as ``tokens`` for each item, None where the prompt is too long for the model.

        Raises:
            AttackError: the vocabulary lacks one of them.
        """
        vocabulary = self._tokenizer.get_vocab()
        if missing := [token for token in tokens if token not in vocabulary]:
            name = self._tokenizer.name_or_path or type(self._tokenizer).__name__
            raise AttackError(f"{name}: its vocabulary has no token {missing[0]!r}; name the model that this judge is")
        wanted = torch.tensor([vocabulary[token] for token in tokens])
        prompts = self._prompts(items, None, wording)
        found: list[list[float] | None] = [None] * len(items)
        for i in self._fitting(prompts):
            found[i] = self._likely(prompts[i], wanted)
        return found

    def _likely(self, prompt: list[int], wanted: torch.Tensor) -> list[float]:
        ids = torch.tensor([prompt], device=next(self._model.parameters()).device)
        with torch.no_grad():
            # One prompt at a time: padding would change the last bits, and only the last logits are kept.
            logits = self._model(input_ids=ids, use_cache=False).logits[0, -1].float().cpu()
        return [float(p) for p in logits.softmax(dim=0)[wanted]]

    def _fitting(self, prompts: Sequence[list[int]]) -> list[int]:
        limit = window(self._model)
        return [i for i, prompt in enumerate(prompts) if len(prompt) < limit]

    def _prompts(
        self, items: Sequence[Item], question: Callable[[Item], str] | None, wording: Wording | None
    ) -> list[list[int]]:
        """Tokens of what is asked about each item."""
        ready = [self._ready(item) for item in items]
        if wording is not None:
            texts = [wording.filled(item.behavior, item.reply, item.context) for item in ready]
            if wording.system is None:
                return [prompt_tokens(self._tokenizer, text) for text in texts]
            system = [("system", wording.system)] if wording.system else []
            return [render(self._tokenizer, [*system, ("user", text)]) for text in texts]
        assert question is not None
        if getattr(self._tokenizer, "chat_template", None):
            template = ChatTemplate(self._tokenizer, None)
            return [template.prompt_ids(question(item)) for item in ready]
        return [prompt_tokens(self._tokenizer, f"{question(item)}\n\nAnswer:") for item in ready]

    def _ready(self, item: Item) -> Item:
        words = (self._tokenizer.all_special_tokens, self._tokenizer.get_added_vocab())
        special = [word for group in words for word in group]
        return Item(
            item.key,
            item.behavior_id,
            defused(item.behavior, special),
            defused(clipped(self._tokenizer, item.reply, self._longest), special),
            None if item.context is None else defused(item.context, special),
            item.category,
        )


def defused(text: str, special: Sequence[str] = ()) -> str:
    """Text in which no mark of a chat format is left whole: a blank is put behind its first character."""
    words = sorted(
        {word for word in special if word.strip() and not word.isalnum()}, key=lambda word: (-len(word), word)
    )
    for word in words:
        text = text.replace(word, f"{word[0]} {word[1:]}" if len(word) > 1 else " ")
    return _MARKERS.sub(lambda found: _broken(found[0]), text)


def _broken(mark: str) -> str:
    body = mark.lstrip()
    return f"{mark[: len(mark) - len(body)]}{body[0]} {body[1:]}"


def clipped(tokenizer: Any, text: str, n_tokens: int) -> str:
    """The beginning of a text that has at most so many tokens, cut between characters."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(offsets) <= n_tokens else text[: offsets[n_tokens - 1][1]]


def marked_off(text: str, what: str) -> str:
    """A text between two lines that it cannot contain: they hold a digest of it."""
    digest = sha256(text.encode()).hexdigest()[:12]
    return f"--- begin of {what} {digest} ---\n{text}\n--- end of {what} {digest} ---"


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a whole prompt that a model is to go on with: one BOS where its tokenizer has one, and no EOS.

    A prompt that begins with the BOS as text is taken as it is; one that does not gets what the tokenizer puts first.
    """
    return PromptTokens(tokenizer).encode(text)[0]
