"""The data of one continuous training: behaviors and conversations as rows, and which of them each step sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardscale.artifacts.seeds import derive_seed
from hardscale.models.chat import ChatTemplate
from hardscale.settings.defenses import CAdvIPO, CAdvUL
from hardscale.tasks.chat import load_chat_task
from hardscale.training.continuous.encode import Talks, triples_of
from hardscale.training.continuous.rows import Conversation, Kind, Mix, Triple, n_steps


class Data:
    """Rows of a training, the same for any order of the task's tables.

    Args:
        task: ``task`` artifact of behaviors and conversations.
        tokenizer: of the model.
        settings: of the defense.
        seed: of the training.

    Attributes:
        template: of the model.
        triples: all behaviors with their targets.
        n_left_out: triples whose prompts were too long.
        n_steps: optimizer steps.
    """

    def __init__(self, task: Path, tokenizer: Any, settings: CAdvUL | CAdvIPO, seed: int) -> None:
        found = load_chat_task(task)
        self.template = ChatTemplate(tokenizer, found.facts["system_prompt"])
        attack = settings.attack
        self.triples, self.n_left_out = triples_of(
            found.train,
            self.template,
            tokenizer,
            settings.max_tokens,
            attack.positions if attack else "prompt",
            attack.n_suffix_tokens if attack else 0,
        )
        self._talks = Talks(found.utility_train, self.template, settings.max_tokens)
        self._mix = Mix(
            len(self.triples),
            len(self._talks),
            settings.batch_size,
            settings.adversarial_share,
            derive_seed(seed, "mix"),
        )
        self.n_steps = n_steps(settings, len(self.triples))

    def rows(self, step: int) -> list[Triple | Conversation]:
        """The rows of a 0-based step, in drawn order."""
        picks = self._mix.at(step)
        return [self.triples[p.index] if p.kind is Kind.ADVERSARIAL else self._talks[p.index] for p in picks]

    def seen(self) -> list[Triple]:
        """The triples that training will see, each once."""
        picks = (pick for step in range(self.n_steps) for pick in self._mix.at(step))
        return [self.triples[i] for i in sorted({pick.index for pick in picks if pick.kind is Kind.ADVERSARIAL})]

    def facts(self) -> dict[str, Any]:
        """What the published model says of them."""
        return {"n_triples": len(self.triples), "n_left_out": self.n_left_out}
