"""Tables of runs whose truth is known: success of one example is correlated over iterations, rounds, seeds and scales.

Log10 odds of success of a model are a line; whether a given example is broken is decided by latent thresholds. An
example has a hardness that all models share, each model adds its own, and each iteration its own again: all uniform
through a Gaussian copula. With ``noise = 0`` what is broken stays broken while rates rise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from hardscale.artifacts.schemas import RUNS

LN10 = np.log(10.0)


@dataclass(frozen=True)
class World:
    """What runs are drawn from; log odds are base 10, compute is log10 FLOPs.

    Attributes:
        n_params: of the scales.
        seeds: of every scale.
        rounds: of defense; 0 for undefended models alone.
        iterations: of the attack, measured at each.
        examples: attacked, the same of every model.
        level: log odds of the middle scale at the last iteration, before defense.
        attack_slope: of log odds over log attack compute, at the middle scale.
        steeper: change of that slope for a factor 10 of parameters.
        size_slope: of log odds at the last iteration over log parameters.
        defense_slope: of log odds over log defense compute, at the last iteration.
        crossing_slope: where given, the attack compute that reaches ``target`` is a line in defense compute with this
            slope, and ``defense_slope`` is not used.
        target: success rate at that line.
        turns: natural logarithm by which the attack slope grows for a factor 10 of defense compute: planes are not
            parallel.
        seed_sd: between seeds of a scale.
        seed_slope_sd: the same of attack slopes.
        round_sd: between rounds of one training.
        scale_sd: between scales.
        scale_slope_sd: the same of attack slopes.
        noise: share of an example's latent variance that is drawn anew at each iteration.
        common: share of the rest that all models have in common.
        know_any: whether the table tells how many examples were broken at least once.
    """

    n_params: Sequence[int] = (10**6, 10**7, 10**8)
    seeds: int = 2
    rounds: int = 0
    iterations: Sequence[int] = tuple(range(1, 11))
    examples: int = 200
    level: float = 0.3
    attack_slope: float = 1.5
    steeper: float = 0.0
    size_slope: float = -0.3
    defense_slope: float = -0.5
    crossing_slope: float | None = None
    target: float = 0.05
    turns: float = 0.0
    seed_sd: float = 0.0
    seed_slope_sd: float = 0.0
    round_sd: float = 0.0
    scale_sd: float = 0.0
    scale_slope_sd: float = 0.0
    noise: float = 0.3
    common: float = 0.2
    know_any: bool = True


@dataclass(frozen=True)
class Drawn:
    """Models with their true rates, from which tables of any number of examples are drawn.

    Attributes:
        keys: one row a model: n_params, seed, round, defense FLOPs and what else a table needs.
        rates: ``(models, iterations)`` true success rates.
    """

    world: World
    keys: pd.DataFrame
    rates: np.ndarray
    flops: np.ndarray = field(repr=False)

    def truth(self, examples: int = 10**6) -> pd.DataFrame:
        """The table that ever more examples on these very models tend to."""
        k = np.round(self.rates * examples)
        return self._table(k, np.maximum.accumulate(k, axis=1), examples, know_any=False)

    def table(self, rng: np.random.Generator) -> pd.DataFrame:
        """A table of runs."""
        world = self.world
        n, (models, iterations) = world.examples, self.rates.shape
        shared = rng.normal(size=(1, n, 1))
        own = rng.normal(size=(models, n, 1))
        latent = np.sqrt(world.common) * shared + np.sqrt(1 - world.common) * own
        fresh = rng.normal(size=(models, n, iterations)) if world.noise else 0.0
        latent = np.sqrt(1 - world.noise) * latent + np.sqrt(world.noise) * fresh
        broken = latent < norm.ppf(self.rates)[:, None, :]
        once = np.logical_or.accumulate(broken, axis=2)
        return self._table(broken.sum(axis=1), once.sum(axis=1), n, know_any=world.know_any)

    def _table(self, k: np.ndarray, once: np.ndarray, n: int, *, know_any: bool) -> pd.DataFrame:
        iterations = list(self.world.iterations)
        rows = self.keys.loc[self.keys.index.repeat(len(iterations))].reset_index(drop=True)
        rows["iteration"] = np.tile(iterations, len(self.keys))
        rows["attack_flops_per_example"] = self.flops.ravel()
        rows["n_examples"] = rows["n_attacked"] = n
        rows["n_success"] = k.ravel().astype("int64")
        rows["asr"] = rows["n_success"] / n
        if know_any:
            rows["n_success_any"] = once.ravel().astype("int64")
        for name in RUNS.names:
            if name not in rows:
                rows[name] = None
        return rows


def draw(world: World, rng: np.random.Generator) -> Drawn:
    """Draw the models: scales, seeds and rounds with their deviations from the lines."""
    log_n = np.log10(np.asarray(world.n_params, dtype=float))
    middle = log_n.mean()
    rows, rates, flops = [], [], []
    steps = np.log10(np.asarray(world.iterations, dtype=float))
    for i, size in enumerate(log_n):
        scale_shift, scale_slope = rng.normal(scale=[world.scale_sd, world.scale_slope_sd])
        for seed in range(world.seeds):
            shift, slope_shift = rng.normal(scale=[world.seed_sd, world.seed_slope_sd])
            for round_ in range(world.rounds + 1):
                defense = np.log10(round_) if round_ else 0.0
                slope = world.attack_slope + world.steeper * (size - middle) + scale_slope + slope_shift
                slope *= np.exp(world.turns * defense)
                top = world.level + world.size_slope * (size - middle) + scale_shift + shift
                if round_:
                    top += world.defense_slope * (1 + defense)
                    top += rng.normal(scale=world.round_sd) if world.crossing_slope is None else 0.0
                odds = top + slope * (steps - steps[-1])
                if round_ and world.crossing_slope is not None:
                    moved = (scale_shift + shift + rng.normal(scale=world.round_sd)) / world.attack_slope
                    crossing = world.crossing_slope * defense - moved
                    odds = np.log10(world.target / (1 - world.target)) + slope * (steps - crossing)
                rates.append(np.clip(expit(LN10 * odds), 1e-12, 1 - 1e-12))
                flops.append(10**steps * world.n_params[i] * 1e3)
                rows.append(_key(world, i, seed, round_, defense))
    return Drawn(world, pd.DataFrame(rows), np.array(rates), np.array(flops))


def _key(world: World, i: int, seed: int, round_: int, defense: float) -> dict[str, Any]:
    params = int(world.n_params[i])
    return {
        "study": "simulated",
        "task": "t",
        "family": "f",
        "scale": f"s{i}",
        "n_params": params,
        "seed": seed,
        "defense": "adv" if round_ else "none",
        "defense_kind": "adversarial_rounds" if round_ else "none",
        "round": round_,
        "attack": "gcg",
        "attack_kind": "gcg",
        "position": "suffix",
        "defense_flops": params * 1e9 * 10 ** (defense + 1) if round_ else 0.0,
        "pretrain_flops": params * 1e12,
        "clean_accuracy": 1.0,
    }


__all__ = ["Drawn", "World", "draw", "replace"]
