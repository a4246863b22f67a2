"""How many cells and jobs a study has: some, each once, and not more than could ever be planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hardscale.artifacts.rounds_plan import chosen_rounds
from hardscale.settings.blocks import Where
from hardscale.settings.checks.finals import n_rounds, row_cells
from hardscale.settings.checks.names import wheres
from hardscale.settings.selection import UNDEFENDED, EvaluateRow

if TYPE_CHECKING:
    from hardscale.settings.study import Study

MAX_CELLS = 5_000
#: Attacks on models, shards counted: drawing up a plan of so many takes minutes.
MAX_JOBS = 300_000
#: Cells times what may select some of them: overrides, and rows of the evaluation.
MAX_LOOKS = 200_000


def check_cells(study: Study) -> None:
    """There are not too many cells, and each is there once."""
    n_cells = 0
    for row in study.grid:
        scales = sum(len(row.scales or study.scales(family)) for family in row.families)
        n_cells += len(row.tasks) * scales * len(row.seeds)
    if n_cells > MAX_CELLS:
        raise ValueError(f"grid: found {n_cells:,} cells, allowed are at most {MAX_CELLS:,}; divide the study")
    seen: dict[str, int] = {}
    for i, row in enumerate(study.grid):
        for cell in study.row_cells(row):
            first = seen.setdefault(cell.key, i)
            if first != i:
                raise ValueError(f"grid.{i}: the cell {cell.key} is already in grid.{first}; list each cell once")
    study.memory["cells"] = study.cells()


def check_extent(study: Study) -> None:
    """What is to be looked at, and what is to be run at least, can be planned."""
    n_cells, n_wheres = len(study.cells()), sum(1 for _ in wheres(study))
    if n_cells * n_wheres > MAX_LOOKS:
        raise ValueError(
            f"grid: found {n_cells:,} cells, among which {n_wheres:,} overrides and rows of `evaluate` choose, allowed "
            f"are at most {MAX_LOOKS:,} choices; divide the study"
        )
    _few_enough(
        sum(len(row_cells(study, row)) * len(row.defenses) * len(row.attacks) * row.shards for row in study.evaluate)
    )


def _few_enough(n_jobs: int) -> None:
    if n_jobs > MAX_JOBS:
        raise ValueError(f"evaluate: found {n_jobs:,} attack jobs, allowed are at most {MAX_JOBS:,}; divide the study")


def check_wheres_match(study: Study) -> None:
    """Every ``where`` of a row selects some cell, and that of an override one that a wider grid could have.

    A study that extends another and runs a part of its grid keeps the overrides for the other parts.
    """
    for key, where in wheres(study):
        if key.startswith("evaluate."):
            if not any(where.matches(c.task, c.family, c.scale, c.seed) for c in study.cells()):
                raise ValueError(f"{key}: no cell of the grid matches all of this; leave out what excludes the others")
        elif not _is_possible(study, where):
            raise ValueError(
                f"{key}: no family has such a scale ({', '.join(where.scale or [])} of "
                f"{', '.join(where.family or study.families)}); leave out what excludes the others"
            )


def _is_possible(study: Study, where: Where) -> bool:
    families = where.family or study.families
    return where.scale is None or any(scale in study.scales(family) for family in families for scale in where.scale)


def check_rounds(study: Study) -> None:
    """Rounds to evaluate exist, for each defense somewhere, and for each model that a row names at least one."""
    for i, row in enumerate(study.evaluate):
        if "rounds" in row.model_fields_set and set(row.defenses) == {UNDEFENDED}:
            raise ValueError(f"evaluate.{i}.rounds: found beside defenses: [none], which has none; leave it out")
        numbers = [] if isinstance(row.rounds, str) else [one for one in row.rounds if isinstance(one, int)]
        if not numbers:
            continue
        most = 0
        for defense in row.defenses:
            if defense == UNDEFENDED:
                continue
            for n, cells in n_rounds(study, defense, row_cells(study, row)):
                most = max(most, n)
                if not chosen_rounds(row.rounds, n):
                    raise ValueError(
                        f"evaluate.{i}.rounds: found {row.rounds}, and {defense!r} has {n} for {cells[0].key}; "
                        "name one that exists there, or choose cells by `where`"
                    )
        if max(numbers) > most:
            raise ValueError(f"evaluate.{i}.rounds: found {max(numbers)}, and its defenses have at most {most}")


def check_jobs(study: Study) -> None:
    """There are not too many attacks, and none is asked for twice."""
    _few_enough(sum(_n_jobs(study, row) for row in study.evaluate))
    asked: dict[tuple[str, str, str], tuple[int, EvaluateRow]] = {}
    for i, row in enumerate(study.evaluate):
        for cell in row_cells(study, row):
            for defense in row.defenses:
                for attack in row.attacks:
                    first, other = asked.setdefault((cell.key, defense, attack), (i, row))
                    if first != i and _rounds_overlap(row, other, defense):
                        raise ValueError(
                            f"evaluate.{i}: {attack!r} on {defense!r} for {cell.key} is already in evaluate.{first}; "
                            "ask for each attack on a model once"
                        )


def _rounds_overlap(row: EvaluateRow, other: EvaluateRow, defense: str) -> bool:
    if defense == UNDEFENDED or any(isinstance(one, str) for rounds in (row.rounds, other.rounds) for one in rounds):
        return True
    return not set(row.rounds).isdisjoint(other.rounds)


def _n_jobs(study: Study, row: EvaluateRow) -> int:
    models = 0
    for defense in row.defenses:
        for n, cells in n_rounds(study, defense, row_cells(study, row)):
            chosen = 1 if defense == UNDEFENDED else len(chosen_rounds(row.rounds, n))
            models += len(cells) * chosen
    return models * len(row.attacks) * row.shards
