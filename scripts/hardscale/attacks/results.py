"""What every attack gives back, and the record that it keeps on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hardscale.models.flop_counter import FlopCounter
from hardscale.models.request import Request as Request  # attacks know it by this module

#: ``callback(iteration, alive, seconds)``: examples worked on in this iteration and the wall time it took.
Callback = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Helper:
    """Another language model that an attack uses, in evaluation mode, and its tokenizer."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True)
class AttackResult:
    """One attacked prompt. Lists have one entry an iteration, the first is iteration 1.

    Attributes:
        text: attack text held after the last iteration.
        tokens: its tokens.
        prompt_text: the whole prompt with it.
        best_text, best_tokens, best_loss: of the held text with the lowest loss, which need not be the last.
        losses: loss of the text held after each iteration.
        successes: whether that text is a success.
        first_success: first iteration that ended with a success, None if none did.
        n_evaluated: candidates whose loss was computed.
        forward_tokens, backward_tokens: cumulative tokens by the papers' convention
            (:mod:`hardscale.models.flop_counter`).
        forward_passes, backward_passes: cumulative prompts.
        flops_exact: cumulative operations as computed.
        perturbation: of an attack in embedding space, what is added to the prompt's embeddings, float32 on the CPU,
            shape ``(prompt tokens, hidden)``; None for attacks in text.
        notes: counts that an attack keeps besides (proposals that could not be parsed, ...), by name.
    """

    text: str
    tokens: tuple[int, ...]
    prompt_text: str
    best_text: str
    best_tokens: tuple[int, ...]
    best_loss: float
    losses: list[float]
    successes: list[bool]
    first_success: int | None
    n_evaluated: list[int]
    forward_tokens: list[int]
    backward_tokens: list[int]
    forward_passes: list[int]
    backward_passes: list[int]
    flops_exact: list[float]
    perturbation: Any = None
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Record:
    """The history of one example while it is under attack.

    Attributes:
        keeps_best: hold the text with the lowest loss so far instead of the one that an iteration ended with.
    """

    before: str
    after: str
    counter: FlopCounter
    keeps_best: bool = False
    losses: list[float] = field(default_factory=list)
    successes: list[bool] = field(default_factory=list)
    n_evaluated: list[int] = field(default_factory=list)
    held: tuple[str, tuple[int, ...]] = ("", ())
    best: tuple[float, str, tuple[int, ...]] | None = None

    def close_iteration(self, text: str, tokens: Sequence[int], loss: float, success: bool, n_evaluated: int) -> None:
        """Note the text that an iteration ended with."""
        better = self.best is None or loss < self.best[0]
        if better:
            self.best = (loss, text, tuple(tokens))
        if better or not self.keeps_best:
            self.held = (text, tuple(tokens))
        else:
            loss, success = self.losses[-1], self.successes[-1]
        self.losses.append(loss)
        self.successes.append(success)
        self.n_evaluated.append(n_evaluated)
        self.counter.close_iteration()

    def result(self) -> AttackResult:
        """The finished record."""
        assert self.best is not None
        text, tokens = self.held
        return AttackResult(
            text=text,
            tokens=tokens,
            prompt_text=self.before + text + self.after,
            best_text=self.best[1],
            best_tokens=self.best[2],
            best_loss=self.best[0],
            losses=self.losses,
            successes=self.successes,
            first_success=self.successes.index(True) + 1 if True in self.successes else None,
            n_evaluated=self.n_evaluated,
            forward_tokens=self.counter.forward_tokens,
            backward_tokens=self.counter.backward_tokens,
            forward_passes=self.counter.forward_passes,
            backward_passes=self.counter.backward_passes,
            flops_exact=self.counter.flops_exact,
        )
