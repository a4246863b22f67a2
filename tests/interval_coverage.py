"""How often intervals cover what they name, on tables of runs whose truth is known.

``make test-long`` measures every case with 1,000 draws. The table of ``docs/statistics.md`` is made by

    export OMP_NUM_THREADS=1 PYTHONPATH=scripts
    python tests/interval_coverage.py --draws 1000 --csv docs/coverage.csv --docs docs/statistics.md
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from hardscale.analysis import fits_binomial
from hardscale.analysis.estimands import ALIKE, THESE
from hardscale.analysis.line import LineFit
from hardscale.analysis.summary import share_of_these, share_of_typical
from hardscale.artifacts.seeds import derive_seed
from simulate import LN10, World, draw

#: A case is saturated where this share of its counts is within one success of 0 or of all.
SATURATED = 0.75
_BEGIN, _END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
Interval = tuple[float, float, str]


#: Kinds of which more draws are made: five models with nothing in common cover in .976 of draws, and the bound of .98
#: lies within one standard error of 1,000 draws.
FINER = {"share": 4}


@dataclass(frozen=True)
class Case:
    """One kind of interval in one world."""

    kind: str
    world: World

    @property
    def name(self) -> str:
        """What differs from a world's defaults."""
        plain = World()
        given = {key: value for key, value in vars(self.world).items() if value != vars(plain)[key]}
        shown = {**given, "seeds": self.world.seeds, "examples": self.world.examples}
        shown["n_params"] = len(self.world.n_params)
        shown.pop("iterations", None)
        return ", ".join(f"{key} {value:g}" for key, value in sorted(shown.items()))


def cases() -> list[Case]:
    """Every case that the documentation reports."""
    return [*_attack(), *_defense(), *_offense(), *_size(), *_steepness(), *_shares()]


def quick_cases() -> list[Case]:
    """A few, one of each kind and estimand, for a test of seconds."""
    one = World(n_params=(10**7,), examples=100, seed_sd=0.3, common=0.2)
    return [
        Case("attack_scaling", replace(one, seeds=2)),
        Case("defense_scaling", replace(one, seeds=1, rounds=4, round_sd=0.2, iterations=(10,), level=1.0)),
        Case("size", World(n_params=_sizes(4), scale_sd=0.5, seed_sd=0.3, iterations=(10,))),
        Case("share", replace(one, seeds=4, iterations=(10,))),
        Case("typical share", replace(one, seeds=5, iterations=(10,))),
    ]


def _sizes(n: int) -> tuple[int, ...]:
    return tuple(int(size) for size in np.logspace(6, 6 + 0.5 * (n - 1), n))


def _attack() -> Iterator[Case]:
    one = World(n_params=(10**7,))
    for seeds, examples, sd in itertools.product((1, 2, 4, 5), (50, 500), (0.0, 0.3, 0.8)):
        yield Case("attack_scaling", replace(one, seeds=seeds, examples=examples, seed_sd=sd))
    for noise, know, seeds in itertools.product((0.0, 0.7), (True, False), (1, 3)):
        yield Case("attack_scaling", replace(one, seeds=seeds, examples=100, noise=noise, know_any=know))
    for seeds, common in itertools.product((2, 5), (0.0, 0.4)):
        yield Case("attack_scaling", replace(one, seeds=seeds, seed_slope_sd=0.3, seed_sd=0.3, common=common))


def _defense() -> Iterator[Case]:
    one = World(n_params=(10**7,), rounds=6, iterations=(10,), level=1.0)
    for seeds, examples, sd in itertools.product((1, 2, 4, 5), (50, 500), (0.0, 0.2)):
        yield Case("defense_scaling", replace(one, seeds=seeds, examples=examples, round_sd=sd, seed_sd=0.3))


def _offense() -> Iterator[Case]:
    one = World(n_params=(10**7,), rounds=6, iterations=(1, 2, 4, 8, 16, 32), know_any=False, crossing_slope=0.7)
    for seeds, examples, turns in itertools.product((1, 2, 5), (50, 500), (-0.3, 0.0, 0.3)):
        yield Case("offense_defense", replace(one, seeds=seeds, examples=examples, turns=turns, seed_sd=0.3))
    for seeds, turns in itertools.product((2, 5), (-0.3, 0.0, 0.3)):
        yield Case("offense_defense", replace(one, seeds=seeds, turns=turns, seed_sd=0.3, round_sd=0.2))


def _size() -> Iterator[Case]:
    one = World(iterations=(10,))
    grid = itertools.product((3, 4, 10), (2, 5), (50, 500), (0.0, 0.5, 0.8), (0.0, 0.8))
    for scales, seeds, examples, scale_sd, seed_sd in grid:
        changes: dict[str, Any] = {"seeds": seeds, "examples": examples, "scale_sd": scale_sd, "seed_sd": seed_sd}
        yield Case("size", replace(one, n_params=_sizes(scales), **changes))
    yield Case("size", replace(one, n_params=_sizes(2), seed_sd=0.3))
    yield Case("size", replace(one, n_params=_sizes(5), seed_sd=0.3, level=-2.5, examples=100))


def _steepness() -> Iterator[Case]:
    grid = itertools.product((3, 6), (2, 5), (50, 500), (0.0, 0.4), (0.0, 0.5))
    for scales, seeds, examples, slope_sd, seed_sd in grid:
        changes: dict[str, Any] = {"seeds": seeds, "examples": examples, "scale_slope_sd": slope_sd}
        world = replace(World(), n_params=_sizes(scales), steeper=0.2, seed_sd=seed_sd, size_slope=-0.1, **changes)
        yield Case("slope_of_slopes", world)


def _shares() -> Iterator[Case]:
    one = World(n_params=(10**7,), iterations=(10,))
    for seeds, examples, sd, common in itertools.product((1, 2, 4, 5), (50, 500), (0.0, 0.8), (0.0, 0.3)):
        world = replace(one, seeds=seeds, examples=examples, seed_sd=sd, common=common)
        yield Case("share", world)
        if seeds >= 5:
            yield Case("typical share", world)


def _line(kind: str, table: pd.DataFrame) -> LineFit:
    if kind == "offense_defense":
        return fits_binomial.offense_defense(table, World.target)
    if kind == "slope_of_slopes":
        scales = [(n_params, fits_binomial.attack_scaling(rows)) for n_params, rows in table.groupby("n_params")]
        return fits_binomial.slope_of_slopes([n for n, _ in scales], [fit for _, fit in scales], table)
    method: Callable[[pd.DataFrame], LineFit] = getattr(fits_binomial, kind)
    return method(table)


def _share(kind: str, table: pd.DataFrame) -> Interval | None:
    k, n = table["n_success"], table["n_attacked"]
    found = share_of_these(k, n) if kind == "share" else share_of_typical(k, n)
    return None if found is None else (found[1], found[2], THESE if kind == "share" else ALIKE)


def _parameter(case: Case) -> float:
    """What infinitely many models like these have."""
    world = case.world
    if case.kind == "typical share":
        return float(expit(LN10 * world.level))
    names = {"attack_scaling": "attack_slope", "defense_scaling": "defense_slope", "size": "size_slope"}
    names["offense_defense"] = "crossing_slope"
    return float(getattr(world, names.get(case.kind, "steeper")))


def measure(case: Case, draws: int) -> dict[str, Any]:
    """Coverage and width of a case.

    Returns:
        ``kind``, ``estimand``, ``case``, ``draws``, ``intervals`` (that were not null), their ``coverage`` and mean
        ``width``, and ``saturated``.
    """
    parameter = None if case.kind == "share" else _parameter(case)
    covered, widths, stuck, estimand = [], [], [], ""
    for i in range(draws):
        rng = np.random.default_rng(derive_seed(i, "coverage", case.kind, case.name))
        models = draw(case.world, rng)
        table = models.table(rng)
        stuck.append(np.mean((table["n_success"] <= 1) | (table["n_success"] >= table["n_attacked"] - 1)))
        if "share" in case.kind:
            found = _share(case.kind, table)
            truth = float(models.rates.mean()) if parameter is None else parameter
        else:
            line = _line(case.kind, table)
            found = None
            if line.ci_low is not None and line.ci_high is not None and line.estimand is not None:
                found = line.ci_low, line.ci_high, line.estimand
                if line.estimand == THESE:
                    parameter = _line(case.kind, models.truth()).slope
            truth = float("nan") if parameter is None else parameter
        if found is not None:
            low, high, estimand = found
            covered.append(low <= truth <= high)
            widths.append(high - low)
    numbers = {"coverage": np.mean(covered) if covered else np.nan, "width": np.mean(widths) if widths else np.nan}
    counts = {"draws": draws, "intervals": len(covered)}
    names = {"kind": case.kind, "estimand": estimand, "case": case.name}
    return {**names, **counts, **numbers, "saturated": bool(np.mean(stuck) >= SATURATED)}


def table_of(chosen: list[Case], draws: int, processes: int) -> pd.DataFrame:
    """Every case measured, in their order."""
    with ProcessPoolExecutor(processes) as pool:
        counts = [draws * FINER.get(case.kind, 1) for case in chosen]
        return pd.DataFrame(list(pool.map(measure, chosen, counts)))


def markdown(table: pd.DataFrame) -> str:
    """A row for each kind and estimand: the lowest and highest coverage of its cases, mean width."""
    lines = ["| interval | estimand | cases | lowest | highest | highest, saturated | mean width |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for (kind, estimand), rows in table.groupby(["kind", "estimand"], sort=False):
        free, stuck = rows[~rows["saturated"]]["coverage"], rows[rows["saturated"]]["coverage"]
        ends = [f"{rows['coverage'].min():.3f}", *(f"{x.max():.3f}" if len(x) else "–" for x in (free, stuck))]
        lines.append(f"| {kind} | {estimand} | {len(rows)} | {' | '.join(ends)} | {rows['width'].mean():.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", help="only these")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--docs", type=Path)
    args = parser.parse_args()
    table = table_of([c for c in cases() if not args.kinds or c.kind in args.kinds], args.draws, args.processes)
    table.round(4).to_csv(args.csv, index=False)
    print(table.to_string())
    if args.docs:
        before, rest = args.docs.read_text(encoding="utf-8").split(_BEGIN)
        after = rest.split(_END)[1]
        said = ", ".join([f"{args.draws:,} draws a case", *(f"{args.draws * n:,} of a {k}" for k, n in FINER.items())])
        body = f"{_BEGIN}\n{said}.\n\n{markdown(table)}{_END}"
        args.docs.write_text(before + body + after, encoding="utf-8")


if __name__ == "__main__":
    main()
