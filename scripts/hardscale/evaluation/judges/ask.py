"""Asking a judging model: hostile text is defused, marked off and clipped before the model reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from hardscale.evaluation.device import load_on_device
from hardscale.evaluation.judges.base import Item, Judgement
from hardscale.memory import Budget
from hardscale.models.chat import ChatTemplate
from hardscale.models.generate import reply
from hardscale.models.window import window

#: Marks by which chat formats tell who speaks. In a judged text they could give the judge orders.
_MARKERS = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
    r"|^[ \t]*#{1,6}[ \t]*(?:instructions?|response|human|assistant|user|system)\b",
    re.IGNORECASE | re.MULTILINE,
)
#: Raw verdicts of a judge that wrote nothing, or can not read the question; an empty one means that it was not asked.
NOTHING, TOO_LONG = "(nothing)", "(too long to read)"
_PLACES = re.compile(r"\{(behavior|context|completion)\}")


class AskedJudge:
    """A judge that asks a language model: a question of its own and a reading of the answer.

    Args:
        name: what the judge is called in tables.
        asker: the judging model.
        prompt: the wording it was trained on; our own words when absent.
    """

    question: Callable[[Item], str]
    verdict: Callable[[str], Judgement]

    def __init__(self, name: str, asker: Asker, prompt: str | None = None) -> None:
        self.name, self._asker, self._prompt = name, asker, prompt

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """Judge all items; an answer that can not be read is no verdict."""
        return [self.verdict(raw) for raw in self._asker.ask(items, self.question, self._prompt)]


class Asker:
    """A judging model and its tokenizer.

    Args:
        folder: ``base_model`` or ``model`` artefact.
        max_completion_tokens: a longer reply is cut there, by this tokenizer.
        max_new_tokens: of an answer.
    """

    def __init__(self, folder: Path, max_completion_tokens: int, max_new_tokens: int) -> None:
        self._model, self._tokenizer = load_on_device(folder)
        self._longest, self._max_new_tokens = max_completion_tokens, max_new_tokens
        self._budget = Budget()

    def ask(self, items: Sequence[Item], question: Callable[[Item], str], prompt: str | None) -> list[str]:
        """The model's answer about each item, greedily decoded.

        Args:
            items: what is judged; their texts are defused and their replies clipped before ``question`` sees them.
            question: the question in our own words, sent through the model's chat template where it has one.
            prompt: the whole prompt with places for the texts, sent as it is, instead.
        """
        ready = [self._ready(item) for item in items]
        if prompt is not None:
            prompts = [self._tokenizer(filled(prompt, item))["input_ids"] for item in ready]
        elif getattr(self._tokenizer, "chat_template", None):
            template = ChatTemplate(self._tokenizer, None)
            prompts = [template.prompt_ids(question(item)) for item in ready]
        else:
            prompts = [self._tokenizer(f"{question(item)}\n\nAnswer:")["input_ids"] for item in ready]
        limit = window(self._model)
        fits = [i for i, prompt in enumerate(prompts) if len(prompt) < limit]
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
    """The begin of a text that has at most so many tokens, cut between characters."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(offsets) <= n_tokens else text[: offsets[n_tokens - 1][1]]


def marked_off(text: str, what: str) -> str:
    """A text between two lines that it can not contain: they hold a digest of it."""
    digest = sha256(text.encode()).hexdigest()[:12]
    return f"--- begin of {what} {digest} ---\n{text}\n--- end of {what} {digest} ---"


def filled(prompt: str, item: Item) -> str:
    """A prompt with the texts in their places; what the texts themselves hold is not looked at."""
    texts = {"behavior": item.behavior, "context": item.context or "", "completion": item.reply}
    return _PLACES.sub(lambda place: texts[place[1]], prompt)
