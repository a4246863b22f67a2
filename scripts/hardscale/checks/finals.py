"""The blocks of a study as they hold for its cells: overrides applied, those of blocks inside of blocks, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hardscale.settings.blocks import Overridable
from hardscale.settings.selection import UNDEFENDED, EvaluateRow
from hardscale.settings.words import first_problem

if TYPE_CHECKING:
    from hardscale.study import Cell, Study


def row_cells(study: Study, row: EvaluateRow) -> list[Cell]:
    """The cells that a row of the evaluation is for."""
    return [c for c in study.cells() if row.where.matches(c.task, c.family, c.scale, c.seed)]


def finals(key: str, block: Any, cells: Iterable[Cell]) -> Iterator[tuple[Any, Sequence[Cell]]]:
    """Each different form of a block, with the cells that it holds for.

    Args:
        key: the block's place in the study.
        block: with its overrides.
        cells: those that it is used for.

    Raises:
        ValueError: overrides that are valid alone are invalid together.
    """
    for form, some in _own(key, block, cells):
        inner = getattr(form, "attack", None)
        if not isinstance(inner, Overridable):
            yield form, some
            continue
        for attack, few in _own(f"{key}.attack", inner, some):
            yield form.model_copy(update={"attack": attack}), few


def _own(key: str, block: Any, cells: Iterable[Cell]) -> Iterator[tuple[Any, list[Cell]]]:
    overrides = block.overrides if isinstance(block, Overridable) else []
    alike: dict[tuple[bool, ...], list[Cell]] = {}
    for cell in cells:
        chosen = tuple(o.where.matches(cell.task, cell.family, cell.scale, cell.seed) for o in overrides)
        alike.setdefault(chosen, []).append(cell)
    for chosen, some in alike.items():
        cell = some[0]
        if not any(chosen):
            yield block, some
            continue
        try:
            form = block.resolve(cell.task, cell.family, cell.scale, cell.seed)
        except ValidationError as error:
            numbers = ", ".join(str(i) for i, one in enumerate(chosen) if one)
            raise ValueError(
                f"{key}.overrides: {numbers} together, for {cell.key}: {first_problem(error, {})}; mend one of them"
            ) from error
        yield form, some


def finetuned(study: Study) -> list[Cell]:
    """Cells that are finetuned: classifiers."""
    return [cell for cell in study.cells() if not study.is_chat(cell.task)]


def trained_cells(study: Study, defense: str) -> list[Cell]:
    """Cells on which some row evaluates a defense; all that it could train where none does."""
    rows = [row for row in study.evaluate if defense in row.defenses]
    asked = {cell for row in rows for cell in row_cells(study, row)}
    return [c for c in study.cells() if c in asked or (not rows and study.fits(c.task, defense=defense))]


def attacked_cells(study: Study, attack: str) -> list[Cell]:
    """Cells on which some row runs an attack; all that it could attack where none does."""
    rows = [row for row in study.evaluate if attack in row.attacks]
    asked = {cell for row in rows for cell in row_cells(study, row)}
    return [c for c in study.cells() if c in asked or (not rows and study.fits(c.task, attack))]


def every_final(study: Study) -> Iterator[tuple[str, Any, Sequence[Cell]]]:
    """Key, form and cells of everything that is trained or run, as it holds there."""
    for form, cells in finals("finetune", study.finetune, finetuned(study)):
        yield "finetune", form, cells
    for name, defense in study.defenses.items():
        for form, cells in finals(f"defenses.{name}", defense, trained_cells(study, name)):
            yield f"defenses.{name}", form, cells
    for name, attack in study.attacks.items():
        for form, cells in finals(f"attacks.{name}", attack, attacked_cells(study, name)):
            yield f"attacks.{name}", form, cells
    for name, family in study.families.items():
        if family.pretrain:
            where = f"families.{name}.pretrain"
            for form, cells in finals(where, family.pretrain, [c for c in study.cells() if c.family == name]):
                yield where, form, cells


def n_rounds(study: Study, defense: str, cells: Iterable[Cell]) -> Iterator[tuple[int, Sequence[Cell]]]:
    """Models that a defense publishes, with the cells that it publishes so many for; one of the undefended."""
    if defense == UNDEFENDED:
        yield 1, list(cells)
        return
    for form, some in finals(f"defenses.{defense}", study.defenses[defense], cells):
        yield int(form.rounds), some
