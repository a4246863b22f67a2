"""Synthetic studies of two attacks whose mean difference is known, and how often pooled intervals cover it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hardscale.analysis.pooled import ModelDifference, pool


@dataclass(frozen=True)
class Draws:
    """Cells, seeds and examples of a logistic model; standard deviations are in log odds.

    Attributes:
        cells: of all tasks together, in blocks of equal size.
        seeds: of each cell.
        tasks: each has its own examples, which all of its models meet.
        n: examples of a task; a model attacks each with probability .97.
        base: mean log odds of the weaker attack.
        gain: mean log odds that the stronger attack adds.
        of_cell: spread of the gain over cells.
        of_seed: ... over seeds.
        of_example: spread of both attacks' log odds over examples.
        of_gain: spread of the gain over examples, the same in every model.
    """

    cells: int = 8
    seeds: tuple[int, ...] = (2, 2, 2, 2, 1, 1, 1, 1)
    tasks: int = 2
    n: int = 160
    base: float = 0.0
    gain: float = 0.8
    of_cell: float = 0.5
    of_seed: float = 0.3
    of_example: float = 1.0
    of_gain: float = 0.7


@dataclass(frozen=True)
class Coverage:
    """Share of draws whose interval covered, and the mean width."""

    share: float
    width: float


def covered(draws: Draws, n_draws: int, seed: int, level: float = 0.95) -> tuple[Coverage, Coverage]:
    """Coverage of the two intervals: of these models (their own truth, over examples), and of models like them."""
    rng = np.random.default_rng(seed)
    truth = _truth(draws)
    these, like = [], []
    for _ in range(n_draws):
        models, own = _study(draws, rng)
        found = pool(models)
        for hits, target, interval in (
            (these, own, found.these_models(level)),
            (like, truth, found.models_like_them(level)),
        ):
            assert interval is not None
            hits.append((interval[0] <= target <= interval[1], interval[1] - interval[0]))
    first, second = (Coverage(*np.mean(hits, axis=0)) for hits in (these, like))
    return first, second


def _study(draws: Draws, rng: np.random.Generator) -> tuple[list[ModelDifference], float]:
    """Models, and the mean difference of exactly these models over all examples that might have been drawn."""
    examples = [
        (rng.normal(0, draws.of_example, draws.n), rng.normal(0, draws.of_gain, draws.n)) for _ in range(draws.tasks)
    ]
    models, truths = [], []
    for cell in range(draws.cells):
        task = cell * draws.tasks // draws.cells
        of_cell = draws.gain + rng.normal(0, draws.of_cell)
        of_seeds = of_cell + rng.normal(0, draws.of_seed, draws.seeds[cell])
        truths.append(np.mean([_expected(draws, gain) for gain in of_seeds]))
        for gain in of_seeds:
            models.append(ModelDifference(cell, str(task), *_values(draws, rng, *examples[task], gain)))
    return models, float(np.mean(truths))


def _values(
    draws: Draws, rng: np.random.Generator, hard: np.ndarray, more: np.ndarray, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    kept = np.flatnonzero(rng.random(draws.n) < 0.97)
    strong = rng.random(draws.n) < _logistic(draws.base + gain + hard + more)
    weak = rng.random(draws.n) < _logistic(draws.base + hard)
    return kept, (strong.astype(float) - weak)[kept]


#: Nodes and weights of the mean over a standard normal.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(30)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def _expected(draws: Draws, gain: float, spread: float = 0.0) -> float:
    """Mean difference over examples, and over gains of a spread."""
    both = np.hypot(np.hypot(draws.of_example, draws.of_gain), spread)
    strong = _WEIGHTS @ _logistic(draws.base + gain + both * _NODES)
    return float(strong - _WEIGHTS @ _logistic(draws.base + draws.of_example * _NODES))


def _truth(draws: Draws) -> float:
    return _expected(draws, draws.gain, float(np.hypot(draws.of_cell, draws.of_seed)))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cases() -> Iterator[tuple[str, Draws]]:
    """Studies of different shape, by name."""
    yield "nano", Draws()
    yield "no spread of models", Draws(of_cell=0.0, of_seed=0.0)
    yield "large spread of models", Draws(of_cell=1.0)
    yield "three cells", Draws(cells=3, seeds=(1, 1, 1), tasks=1)
    yield "four cells, 50 examples", Draws(cells=4, seeds=(2,) * 4, tasks=1, n=50)
    yield "examples move models together", Draws(of_cell=0.2, of_seed=0.1, of_gain=1.5)
    yield "twelve cells, 500 examples", Draws(cells=12, seeds=(1,) * 12, n=500)
    yield "five seeds", Draws(seeds=(5,) * 8, of_seed=0.6)
