"""Checks before anything runs: sources are on disk or reachable, results have a place, optimizers fit the GPUs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hardscale.model_check import model_problems
from hardscale.plan.estimates import Needs
from hardscale.plan.grid import Holdings
from hardscale.plan.launching import Launch
from hardscale.plan.site import VARIABLE
from hardscale.settings.defenses import External
from hardscale.settings.study import Cell, Study, data_root
from hardscale.untrusted.literal import one_line
from hardscale.utility_check import utility_problems


def problems(study: Study, conda: bool = False) -> list[str]:
    """One line for each task, model or measure whose source is neither on disk nor reachable.

    Args:
        study: what is to be run.
        conda: whether jobs get their environments from Snakemake.
    """
    from hardscale.models import check as models
    from hardscale.tasks import check as tasks

    cells = study.cells()
    found = [
        tasks.check_source(name, study.tasks[name], data_root(study)) for name in dict.fromkeys(c.task for c in cells)
    ]
    found += [
        models.check_external(name, block, data_root(study))
        for name, block in study.defenses.items()
        if isinstance(block, External)
    ]
    found += [
        models.check_source(family, scale, study.families[family], data_root(study))
        for family, scale in dict.fromkeys([*((c.family, c.scale) for c in cells), *study.other_models()])
    ]
    return [*(line for line in found if line), *model_problems(study), *utility_problems(study, conda)]


def place_problem(root: Path) -> str | None:
    """Why results can not be written to ``root``; None when they can."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return None
    except OSError as error:
        return _unusable(root, error.strerror or str(error))


def _unusable(root: Path, reason: str) -> str:
    return f"{root}: results can not be written here ({reason}); mend it, or choose a place by --directory"


def optimizer_problems(holdings: Holdings, needs: Needs) -> list[str]:
    """One line for each scale whose GPUs ask for a ZeRO stage that its factored Adafactor can not have."""
    trained: list[tuple[str, Cell, Any]] = [
        ("finetune", cell, SimpleNamespace(cell=cell.key)) for cell in holdings.cells
    ]
    trained += [
        (f"defenses.{lineage.defense}", lineage.cell, SimpleNamespace(lineage=lineage.key))
        for lineage in holdings.defended
    ]
    scales = {(cell.family, cell.scale) for cell in holdings.cells}
    concerned = {(family, scale) for family, scale in scales if needs.may_need_zero(family, scale)}
    found: dict[tuple[str, str, str], str] = {}
    for block, cell, wildcards in trained:
        place = (block, cell.family, cell.scale)
        if place[1:] not in concerned or place in found or not (stage := needs.zero_stage(wildcards)):
            continue
        optimizer = needs.optimizer(wildcards)
        if optimizer.kind == "adafactor" and optimizer.factored:
            found[place] = (
                f"{block}.optimizer.factored: found true for {cell.family} {cell.scale}, which needs ZeRO {stage}, "
                f"where Adafactor has nothing to factor; set optimizer.kind: adamw or optimizer.factored: false "
                f"for this scale, or {needs.without_zero(wildcards)} in the file of {VARIABLE}"
            )
    return list(found.values())


def check_plan(holdings: Holdings, launch: Launch, needs: Needs) -> None:
    """Stop before anything is planned where results lie below a file, or where Slurm's GPUs can not train a scale."""
    root = holdings.layout.root
    for path in (root, *root.parents):
        if path.exists() and not path.is_dir():
            _stop([_unusable(root, f"{path} is a file")])
    if launch.how != "local":
        _stop(optimizer_problems(holdings, needs))


def check_sources(study: Study, root: Path, conda: bool = False) -> None:
    """Stop the workflow with a line for each missing source, or where results can not be written to ``root``."""
    _stop(problems(study, conda) or [line for line in [place_problem(root)] if line])


def _stop(lines: list[str]) -> None:
    if lines:
        print("\n".join(f"error: {one_line(line)}" for line in lines), file=sys.stderr)
        raise SystemExit(1)
