"""Regular expressions of names and lineages, for wildcard constraints."""

from __future__ import annotations

import re

from hardscale.plan.paths import Lineage
from hardscale.settings.study import Cell

_NOTHING = "(?!)"


def exactly(lineages: list[Lineage]) -> str:
    """A short regular expression of exactly these lineages: full products of tasks and seeds are factored.

    One that matches nothing when there are none.
    """
    if not lineages:
        return _NOTHING
    groups: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
    for lineage in lineages:
        cell = lineage.cell
        groups.setdefault((cell.family, cell.scale, lineage.defense), set()).add((cell.task, cell.seed))
    parts = []
    for (family, scale, defense), members in groups.items():
        tasks, seeds = {task for task, _ in members}, {seed for _, seed in members}
        if len(members) == len(tasks) * len(seeds):
            middle = f"/{re.escape(family)}/{re.escape(scale)}/s"
            parts.append(any_of(tasks) + middle + any_of({str(seed) for seed in seeds}) + "/" + re.escape(defense))
        else:
            keys = {Lineage(Cell(task, family, scale, seed), defense).key for task, seed in members}
            parts.append(any_of(keys))
    return "(?:" + "|".join(parts) + ")"


def any_of(names: set[str]) -> str:
    """A regular expression of exactly these names; one that matches nothing when there are none."""
    return "(?:" + "|".join(sorted(map(re.escape, names))) + ")" if names else _NOTHING
