"""R2D2: adversarial training of a chat model against discrete suffixes that persist (arXiv 2402.04249).

The baseline that continuous training is measured against. In every step a few cases of a pool are improved by steps of
GCG from the suffix that they have; training then moves away from their harmful answers by ``-log(1 - p)``, towards the
safe one and keeps the model useful.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.base import run_attack
from hardscale.attacks.results import AttackResult
from hardscale.attacks.starts import start_of
from hardscale.errors import TrainingError
from hardscale.models.chat import ChatTemplate, load_chat_model
from hardscale.models.flop_counter import PassCounts
from hardscale.models.load import load_tokenizer
from hardscale.runtime import pulse
from hardscale.settings.attacks import AttackSettings
from hardscale.settings.defenses import R2D2, CAdvUL
from hardscale.settings.words import from_spec
from hardscale.tasks.chat import Behavior, load_chat_task
from hardscale.training.continuous.encode import Talks
from hardscale.training.continuous.job import ContinuousTraining
from hardscale.training.continuous.lora import add_lora, put_weights, trained_weights
from hardscale.training.continuous.publish import TrainedFrom
from hardscale.training.continuous.rows import Conversation, Stream, Triple
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.continuous.step import StepSums
from hardscale.training.distributed import Group
from hardscale.training.engine import weights_dtype
from hardscale.training.options import RunOptions


def r2d2(
    spec: dict[str, Any], start: Path, task: Path, state: Path, out: Path, group: Group, options: RunOptions
) -> None:
    """Train a chat model against persistent discrete suffixes and publish it as round 1. Every rank calls it.

    Args:
        spec: ``cell``, ``defense``, ``seed``, ``ranks``, ``settings`` (a resolved :class:`R2D2`).
        start: ``model`` artifact of round 0.
        task: ``task`` artifact of behaviors and conversations.
        state: private folder of this job, for checkpoints.
        out: the ``model`` artifact.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.

    Raises:
        TrainingError: nothing to train on, a loss that is not finite.
    """
    settings, source = from_spec(R2D2, spec["settings"]), TrainedFrom(spec, start, task, out)
    tokenizer = load_tokenizer(start)
    data = _Goals(task, tokenizer, settings, int(spec["seed"]))
    _R2D2(settings, source, data, tokenizer, state, group, options).run()


@dataclass(frozen=True)
class _Goal:
    """A request and what an attack wants the model to begin with."""

    behavior: Behavior
    target: int

    @property
    def text(self) -> str:
        """The target."""
        return self.behavior.targets[self.target]


class _Goals:
    """Requests with their targets, and the conversations of every step."""

    def __init__(self, task: Path, tokenizer: Any, settings: R2D2, seed: int) -> None:
        found = load_chat_task(task)
        self.template = ChatTemplate(tokenizer, found.facts["system_prompt"])
        self.n_steps = settings.steps
        self._settings, self._n_talks = settings, settings.utility_batch if settings.utility_weight else 0
        room = settings.max_tokens - settings.n_attack_tokens
        known = sorted(found.train, key=lambda behavior: behavior.row_id)
        fitting = [b for b in known if len(self.template.prompt_ids(b.request)) < room]
        self.goals = [_Goal(b, number) for b in fitting for number in range(len(b.targets))]
        self._n_left_out = sum(len(b.targets) for b in known) - len(self.goals)
        if not self.goals:
            raise TrainingError("task: no behavior to train against is left; give task.train behaviors that fit")
        self._talks = Talks(found.utility_train, self.template, settings.max_tokens)
        if self._n_talks and not len(self._talks):
            raise TrainingError(
                f"utility_batch: found {self._n_talks}, but the task has no conversations; give the task `utility`, "
                "or utility_weight: 0"
            )
        self._order = Stream(max(len(self._talks), 1), derive_seed(seed, "utility"))

    def rows(self, step: int) -> list[Triple | Conversation]:
        """The conversations of a step."""
        first = step * self._n_talks
        return [self._talks[self._order.at(place)] for place in range(first, first + self._n_talks)]

    def seen(self) -> list[Triple]:
        """None are known beforehand."""
        return []

    def facts(self) -> dict[str, Any]:
        """What the published model says of them."""
        return {"n_triples": len(self.goals), "n_left_out": self._n_left_out}

    def around(self, goal: _Goal) -> tuple[str, str]:
        """The prompt before and after the suffix."""
        return self.template.around(goal.behavior.request, "suffix")

    def triple(self, goal: _Goal, prompt: str) -> Triple:
        """An attacked prompt with both answers, cut to the longest length."""
        ids, answers = self.template.answered(prompt, [goal.text, goal.behavior.safe_answer])
        room = max(self._settings.max_tokens - len(ids), 1)
        away, toward = (tuple(answer[:room]) for answer in answers)
        return Triple((goal.behavior.row_id, goal.target), tuple(ids), (0, 0), away, toward)


class _R2D2(ContinuousTraining):
    """The training: as C-AdvUL with another attack, whose vectors are tokens that live on."""

    data: _Goals

    def __init__(
        self,
        settings: R2D2,
        source: TrainedFrom,
        data: _Goals,
        tokenizer: Any,
        state: Path,
        group: Group,
        options: RunOptions,
    ) -> None:
        self._own = settings
        self._pool = SuffixPool(len(data.goals), derive_seed(int(source.spec["seed"]), "pool"))
        self._pool.fill(settings.pool_size)
        super().__init__(source, _as_unlikelihood(settings), data, tokenizer, state, group, options)

    def rows(self, step: int) -> tuple[list[Triple | Conversation], StepSums]:
        """The improved cases and the conversations of a step, and what improving cost this rank."""
        if step and step % self._own.reset_every == 0:
            self._pool.begin_again(self._own.reset_share, step)
        chosen = self._pool.choose(self._own.cases_per_step, step)
        mine = chosen[self.group.rank :: self.group.world]
        results = dict(zip(mine, self._improve(mine, step), strict=True))
        told = {
            place: (list(result.tokens), result.prompt_text, start_of(result.notes))
            for place, result in results.items()
        }
        everyone = {place: found for part in self.group.gather(told) for place, found in part.items()}
        triples = []
        for place in chosen:
            tokens, prompt, start = everyone[place]
            self._pool.cases[place].tokens = tokens
            self._pool.starts[start] = self._pool.starts.get(start, 0) + 1
            triples.append(self.data.triple(self._goal(place), prompt))
        return [*triples, *self.data.rows(step)], _tally(list(results.values()))

    def progress(self) -> dict[str, Any]:
        """With the pool."""
        return {**super().progress(), "pool": self._pool.dump()}

    def data_facts(self) -> dict[str, Any]:
        """With how the suffixes that cases were improved from came about, over all steps."""
        return {**super().data_facts(), "attack_starts": dict(sorted(self._pool.starts.items()))}

    def resume(self, saved: dict[str, Any]) -> None:
        """With the pool."""
        super().resume(saved)
        self._pool.load(saved["pool"])

    def _goal(self, place: int) -> _Goal:
        return self.data.goals[self._pool.cases[place].goal]

    def _improve(self, places: Sequence[int], step: int) -> list[AttackResult]:
        """Some steps of GCG on cases, from the suffixes that they have."""
        goals, search = [self._goal(place) for place in places], search_of(self._own)
        with self._lent() as lm:
            return run_attack(
                search,
                lm,
                self.tokenizer,
                [self.data.around(goal) for goal in goals],
                [self.data.template.opening(goal.text) for goal in goals],
                keys=places,
                starts=[self._pool.cases[place].tokens for place in places],
                seed=derive_seed(self.seed, search.kind, step),
                callback=lambda *_: pulse.beat(),
            )

    @contextlib.contextmanager
    def _lent(self) -> Iterator[Any]:
        """The language model for an attack; under ZeRO-3 a whole copy, as ranks run different numbers of passes."""
        if self.engine.options.zero_stage < 3:
            with self.engine.frozen_in_place() as module:
                yield module.lm
            return
        weights = trained_weights(self.engine.module, 3)
        lm: Any = load_chat_model(self.source.start, weights_dtype(self.engine.options))[0]
        if self._own.lora:
            add_lora(lm, self._own.lora, 0)
        put_weights(ScoredLM(lm), weights)
        yield lm.to(self.group.device)


def _as_unlikelihood(settings: R2D2) -> CAdvUL:
    """The training step as one of C-AdvUL: no vectors, no cut-offs, the other away loss."""
    return CAdvUL(
        kind="c_advul",
        attack=None,
        steps=settings.steps,
        batch_size=min(settings.cases_per_step, settings.pool_size) + settings.utility_batch,
        max_tokens=settings.max_tokens,
        share_prompts=settings.share_prompts,
        lora=settings.lora,
        optimizer=settings.optimizer,
        utility_weight=settings.utility_weight,
        toward_weight=settings.toward_weight,
        away_weight=settings.away_weight,
        toward_cutoff=None,
        away_cutoff=None,
        away_loss="log_1_minus_p",
    )


def _tally(results: Sequence[AttackResult]) -> StepSums:
    """What improving cases cost, and the loss after the first and the last step of it."""
    tally = StepSums(attacked=len(results))
    for result in results:
        tally.first += result.losses[0]
        tally.last += result.losses[-1]
        tally.work += PassCounts.last_of(result)
    return tally


@dataclass
class Case:
    """A harmful request with one of its targets and the suffix found for it so far.

    Attributes:
        goal: index of request and target.
        tokens: of the suffix; None before its first improvement.
    """

    goal: int
    tokens: list[int] | None = None


@dataclass
class SuffixPool:
    """Cases that live on from step to step.

    Attributes:
        n_goals: requests with targets to draw from.
        seed: of all draws.
        cases: the pool now.
        n_drawn: cases ever begun.
        starts: how often a case was improved from a suffix that came about so (:mod:`hardscale.attacks.starts`).
    """

    n_goals: int
    seed: int
    cases: list[Case] = field(default_factory=list)
    n_drawn: int = 0
    starts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._goals = Stream(self.n_goals, derive_seed(self.seed, "goals"))

    def fill(self, size: int) -> None:
        """Begin cases until there are ``size``."""
        while len(self.cases) < size:
            self.cases.append(self._new())

    def begin_again(self, share: float, step: int) -> None:
        """Replace a drawn share of the pool by new cases."""
        for place in self._draw(round(share * len(self.cases)), "reset", step):
            self.cases[place] = self._new()

    def choose(self, n: int, step: int) -> list[int]:
        """Places of the cases that a step works on, in order."""
        return sorted(self._draw(min(n, len(self.cases)), "cases", step))

    def dump(self) -> dict[str, Any]:
        """What changes, as JSON."""
        return {
            "cases": [[case.goal, case.tokens] for case in self.cases],
            "n_drawn": self.n_drawn,
            "starts": self.starts,
        }

    def load(self, values: dict[str, Any]) -> None:
        """Of :meth:`dump`."""
        self.cases = [Case(goal, tokens) for goal, tokens in values["cases"]]
        self.n_drawn, self.starts = values["n_drawn"], dict(values["starts"])

    def _new(self) -> Case:
        self.n_drawn += 1
        return Case(self._goals.at(self.n_drawn - 1))

    def _draw(self, n: int, role: str, step: int) -> Sequence[int]:
        rng = np.random.default_rng(derive_seed(self.seed, role, step))
        return rng.choice(len(self.cases), n, replace=False).tolist()


def search_of(settings: R2D2) -> AttackSettings:
    """The attack of a step."""
    return AttackSettings(
        kind=settings.attacks_with,
        n_iterations=settings.gcg_steps,
        n_candidates=settings.n_candidates,
        top_k=settings.top_k,
        n_attack_tokens=settings.n_attack_tokens,
        candidate_rng="per_example",
        allowed=settings.allowed,
        held="last",  # a step of training resumes from the last suffix, as published
    )
