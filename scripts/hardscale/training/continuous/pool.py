"""The persistent pool of discrete suffixes that R2D2 trains against (arXiv 2402.04249, section on R2D2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hardscale.artifacts.seeds import derive_seed
from hardscale.training.continuous.rows import Stream


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
class Pool:
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
