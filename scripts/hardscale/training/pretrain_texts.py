"""What a family made here is pretrained on: the prompts of classification tasks, the conversations of chat tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import open_artifact
from hardscale.attacks.codec import Codec
from hardscale.models.chat import ChatTemplate
from hardscale.settings.training import ExposureSettings
from hardscale.tasks.chat import KIND, load_chat_task
from hardscale.tasks.data import load_split
from hardscale.training.batches import Row
from hardscale.training.exposure import Exposure

#: Half of the prompts hold random tokens where attacks will write, so that such text is not new to the model.
_EXPOSURE = ExposureSettings(probability=0.5, max_tokens=10)


class Texts:
    """The training texts of some tasks as rows.

    Args:
        tasks: ``task`` artifacts.
        tokenizer: of the model.
        codec: the same as batched functions.
        max_tokens: longer rows are cut.
        seed: of what random tokens are put into prompts.
    """

    def __init__(self, tasks: Sequence[Path], tokenizer: Any, codec: Codec, max_tokens: int, seed: int) -> None:
        chats = [path for path in tasks if open_artifact(path, "task")["facts"].get("kind") == KIND]
        merged = [example for path in tasks if path not in chats for example in load_split(path, "train")]
        self._examples = [replace(example, example_id=index) for index, example in enumerate(merged)]
        self._chats = [ids for path in chats for ids in _conversations(path, tokenizer, max_tokens)]
        self._codec, self._max_tokens = codec, max_tokens
        self._exposure = Exposure(codec, _EXPOSURE, seed)

    def __len__(self) -> int:
        return len(self._examples) + len(self._chats)

    def rows(self, epoch: int, chosen: Sequence[int]) -> list[Row]:
        """The rows of some texts as this epoch shows them."""
        n = len(self._examples)
        examples = [self._examples[i] for i in chosen if i < n]
        encoded = self._codec.encode_prompts(self._exposure.texts(examples, epoch))
        prompts = {e.example_id: ids[: self._max_tokens] for e, ids in zip(examples, encoded, strict=True)}
        return [Row(i, prompts[i] if i < n else self._chats[i - n]) for i in chosen]


def _conversations(task: Path, tokenizer: Any, max_tokens: int) -> list[list[int]]:
    chats = load_chat_task(task)
    template = ChatTemplate(tokenizer, chats.facts["system_prompt"])
    return [template.conversation(chat.messages, max_tokens)[0] for chat in chats.utility_train]
