"""Generating a round's adversarial examples: the training attack, shared among ranks, in chunks that can be saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hardscale.attacks.base import run_attack
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult
from hardscale.attacks.starts import start_of
from hardscale.models.counts import model_shape
from hardscale.models.flop_counter import PassCounts
from hardscale.models.flops import backward_flops, exact_forward_flops, forward_flops
from hardscale.runtime.memory import Budget
from hardscale.settings.defenses import AttackInTraining
from hardscale.tasks.example import Example
from hardscale.training.clean import classify
from hardscale.training.pool import PoolEntry
from hardscale.training.session import Session

#: Most examples that a rank attacks between two votes: more would hardly fill forward passes better.
LARGEST_CHUNK = 128
#: Work between two votes, by device type: some twenty seconds.
_CHUNK_FLOPS = {"cpu": 1e12, "cuda": 6e14}


@dataclass(frozen=True)
class Outcome:
    """What the attack made of an example: the attacked prompt, and what it cost.

    Attributes:
        text: the attacked prompt.
        success: whether the model misclassifies it.
        n_forward: tokens read forwards by the convention.
        n_backward: ... and backwards.
        work: as :meth:`PassCounts.values`, with the operations as computed.
        start: how its first text came about (:mod:`hardscale.attacks.starts`).
    """

    text: str
    success: bool
    n_forward: int
    n_backward: int
    work: list[float]
    start: str = ""


@dataclass
class Attacked:
    """A round's examples while they are attacked.

    Attributes:
        targets: the class that the attack wants of each example.
        n_scored: tokens read to find them.
        scored: the same as :meth:`PassCounts.values`.
        outcomes: of the examples done, in the order of all.
    """

    targets: list[int]
    n_scored: int
    scored: list[float] = field(default_factory=lambda: PassCounts().values())
    outcomes: list[Outcome] = field(default_factory=list)

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "outcomes": [vars(outcome) for outcome in self.outcomes]}

    @classmethod
    def load(cls, values: dict[str, Any]) -> Attacked:
        """Of :meth:`dump`."""
        return cls(**{**values, "outcomes": [Outcome(**outcome) for outcome in values["outcomes"]]})

    def flops(self, n_params: int) -> float:
        """Cost by the convention (2N, 4N)."""
        n_forward = sum(outcome.n_forward for outcome in self.outcomes) + self.n_scored
        n_backward = sum(outcome.n_backward for outcome in self.outcomes)
        return forward_flops(n_params, n_forward) + backward_flops(n_params, n_backward)

    @property
    def work(self) -> PassCounts:
        """Passes, tokens and operations as they were done."""
        return sum((PassCounts(*outcome.work) for outcome in self.outcomes), start=PassCounts(*self.scored))

    @property
    def success_share(self) -> float:
        """Share of examples that the attack made the model misclassify."""
        return sum(outcome.success for outcome in self.outcomes) / len(self.outcomes)

    @property
    def starts(self) -> dict[str, int]:
        """Number of examples by how their first text was made."""
        return dict(sorted(Counter(outcome.start for outcome in self.outcomes if outcome.start).items()))

    def entries(self, examples: Sequence[Example], round_number: int) -> list[PoolEntry]:
        """New pool entries, in the order of the examples."""
        return [
            PoolEntry(example.example_id, round_number, outcome.text, example.label, outcome.success)
            for example, outcome in zip(examples, self.outcomes, strict=True)
        ]


class _ToldToStopError(Exception):
    """A lone rank was told to stop between two iterations."""


@dataclass(frozen=True)
class Generation:
    """The training attack on a round's clean examples.

    An example's outcome depends neither on the examples attacked with it nor on its rank, so chunks change no result.

    Attributes:
        tokenizer: of the model.
        codec: the same as batched functions.
        examples: attacked whether or not the model classifies them correctly.
        settings: the training attack.
        n_iterations: of this round.
        seed: of the attack in this round.
        session: the ranks.
        budget: of its forward passes, so that what did not fit in one chunk is not tried again in the next.
    """

    tokenizer: Any
    codec: Codec
    examples: Sequence[Example]
    settings: AttackInTraining
    n_iterations: int
    seed: int
    session: Session
    budget: Budget = field(default_factory=Budget)

    def begin(self, module: nn.Module, n_labels: int) -> Attacked:
        """Targets: with two classes the other one, with more the likeliest wrong one. Every rank calls it.

        Args:
            module: the current model, frozen.
            n_labels: classes of the task.
        """
        labels = torch.tensor([example.label for example in self.examples])
        if n_labels == 2:
            return Attacked((1 - labels).tolist(), 0)
        texts = [example.text for example in self.examples]
        logits, n_tokens = classify(module, self.codec, texts, self.session.group, self.tokenizer.pad_token_id)
        logits[torch.arange(len(labels)), labels] = -torch.inf
        shape = model_shape(module.config)  # type: ignore[arg-type]
        lengths = [len(ids) for ids in self.codec.encode_prompts(texts)]
        flops = sum(exact_forward_flops(shape, length, 0, n_labels) for length in lengths)
        scored = PassCounts(len(texts), 0, n_tokens, 0, flops)
        return Attacked(logits.argmax(dim=-1).tolist(), n_tokens, scored.values())

    def go_on(self, module: nn.Module, attacked: Attacked, progress: Callable[[int], None]) -> tuple[bool, bool]:
        """Attack chunk by chunk until all examples are done or the ranks agree to stop or to save.

        Every rank calls it and gets all outcomes. All ranks go through the same chunks, in the last of which some may
        have nothing to attack. A lone rank leaves a chunk where it is told to stop; several finish theirs first.

        Args:
            module: the current model, frozen; no forward pass of it may need the other ranks.
            attacked: gets the outcomes.
            progress: told after each chunk how many examples it held.

        Returns:
            Whether to stop, and whether to save.
        """
        group = self.session.group
        size = group.world * self._chunk_of_a_rank(module)
        while (start := len(attacked.outcomes)) < len(self.examples):
            stop = min(start + size, len(self.examples))
            try:
                mine = self._attack(module, attacked.targets, range(start + group.rank, stop, group.world))
            except _ToldToStopError:
                return True, True
            parts = group.gather([vars(outcome) for outcome in mine])
            attacked.outcomes += [Outcome(**parts[i % group.world][i // group.world]) for i in range(stop - start)]
            progress(stop - start)
            told = self.session.agree()
            if any(told):
                return told
        return False, False

    def _chunk_of_a_rank(self, module: nn.Module) -> int:
        """Examples of one rank between two checkpoints, the same number on every rank: what may be lost, about."""
        replaces = self.settings.facts.replaces
        n_rows = self.settings.value(replaces) if replaces else 1
        n_tokens = self.n_iterations * n_rows * 2 * self.settings.n_attack_tokens  # the answer prompt is about as long
        work = forward_flops(sum(parameter.numel() for parameter in module.parameters()), n_tokens)
        wanted = _CHUNK_FLOPS.get(self.session.group.device.type, _CHUNK_FLOPS["cuda"]) / work
        return int(min(max(wanted, 1), LARGEST_CHUNK))

    def _attack(self, module: nn.Module, targets: Sequence[int], mine: range) -> list[Outcome]:
        examples = [self.examples[i] for i in mine]
        results = run_attack(
            self.settings.model_copy(update={"n_iterations": self.n_iterations}),
            module,
            self.tokenizer,
            [example.around(self.settings.position) for example in examples],
            [targets[i] for i in mine],
            labels=[example.label for example in examples],
            keys=[example.example_id for example in examples],
            seed=self.seed,
            tokens_per_batch=self.budget,
            callback=self._stop_if_told,
        )
        return [_outcome(result) for result in results]

    def _stop_if_told(self, iteration: int, alive: int, seconds: float) -> None:  # noqa: ARG002
        if self.session.stop_asked and self.session.group.world == 1:
            raise _ToldToStopError


def _outcome(result: AttackResult) -> Outcome:
    n_forward, n_backward = result.forward_tokens[-1], result.backward_tokens[-1]
    work = PassCounts.last_of(result)
    return Outcome(
        result.prompt_text, bool(result.successes[-1]), n_forward, n_backward, work.values(), start_of(result.notes)
    )
