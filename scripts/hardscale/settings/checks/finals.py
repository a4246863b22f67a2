"""The blocks of a study as they hold for its cells: overrides applied, those of blocks inside of blocks, too.

Each is settled once for every cell that it is used for; all checks look there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hardscale.settings.blocks import Overridable
from hardscale.settings.selection import UNDEFENDED, EvaluateRow
from hardscale.settings.words import first_problem

if TYPE_CHECKING:
    from hardscale.settings.study import Cell, Study


def row_cells(study: Study, row: EvaluateRow) -> list[Cell]:
    """The cells that a row of the evaluation is for."""
    known = study.memory.setdefault("rows", {})
    if id(row) not in known:
        known[id(row)] = [c for c in study.cells() if row.where.matches(c.task, c.family, c.scale, c.seed)]
    found: list[Cell] = known[id(row)]
    return found


def finals(study: Study, key: str, cells: Iterable[Cell]) -> Iterator[tuple[Any, Sequence[Cell]]]:
    """Each different form of a block, with the cells that it holds for.

    Args:
        study: that it is of.
        key: the block's place: ``finetune``, ``defenses.NAME``, ``attacks.NAME`` or ``families.NAME.pretrain``.
        cells: of those that it is used for.

    Raises:
        ValueError: overrides that are valid alone are invalid together.
    """
    known = study.memory.setdefault("settled", {})
    if key not in known:
        block, used = _block(study, key)
        known[key] = {cell: form for form, some in _nested(key, block, used) for cell in some}
    alike: dict[int, tuple[Any, list[Cell]]] = {}
    for cell in cells:
        form = known[key][cell]
        alike.setdefault(id(form), (form, []))[1].append(cell)
    yield from alike.values()


def every_final(study: Study) -> Iterator[tuple[str, Any, Sequence[Cell]]]:
    """Key, form and cells of everything that is trained or run, as it holds there."""
    keys = [
        "finetune",
        *(f"defenses.{name}" for name in study.defenses),
        *(f"attacks.{name}" for name in study.attacks),
    ]
    keys += [f"families.{name}.pretrain" for name, family in study.families.items() if family.pretrain]
    for key in keys:
        for form, cells in finals(study, key, _block(study, key)[1]):
            yield key, form, cells


def trained_cells(study: Study, defense: str) -> Sequence[Cell]:
    """Cells on which some row evaluates a defense; all that it could train where none does."""
    return _used(study, "defenses").get(defense) or [
        cell for cell in study.cells() if study.fits(cell.task, defense=defense)
    ]


def attacked_cells(study: Study, attack: str) -> Sequence[Cell]:
    """Cells on which some row runs an attack; all that it could attack where none does."""
    return _used(study, "attacks").get(attack) or [cell for cell in study.cells() if study.fits(cell.task, attack)]


def n_rounds(study: Study, defense: str, cells: Iterable[Cell]) -> Iterator[tuple[int, Sequence[Cell]]]:
    """Models that a defense publishes, with the cells that it publishes so many for; one of the undefended."""
    if defense == UNDEFENDED:
        yield 1, list(cells)
        return
    for form, some in finals(study, f"defenses.{defense}", cells):
        yield int(form.n_rounds), some


def _used(study: Study, part: str) -> dict[str, list[Cell]]:
    """Name of each attack or defense that a row names -> the cells of such rows."""
    if part not in study.memory:
        found: dict[str, dict[Cell, None]] = {}
        for row in study.evaluate:
            for name in getattr(row, part):
                found.setdefault(name, {}).update(dict.fromkeys(row_cells(study, row)))
        study.memory[part] = {name: list(cells) for name, cells in found.items()}
    used: dict[str, list[Cell]] = study.memory[part]
    return used


def _block(study: Study, key: str) -> tuple[Any, Sequence[Cell]]:
    """The block at a place, and the cells that it is used for."""
    if key == "finetune":
        return study.finetune, [cell for cell in study.cells() if not study.is_chat(cell.task)]
    part, _, name = key.partition(".")
    if part == "defenses":
        return study.defenses[name], trained_cells(study, name)
    if part == "attacks":
        return study.attacks[name], attacked_cells(study, name)
    family = name.removesuffix(".pretrain")
    return study.families[family].pretrain, [cell for cell in study.cells() if cell.family == family]


def _nested(key: str, block: Any, cells: Sequence[Cell]) -> Iterator[tuple[Any, Sequence[Cell]]]:
    for form, some in _own(key, block, cells):
        inner = getattr(form, "attack", None)
        if not isinstance(inner, Overridable):
            yield form, some
            continue
        for attack, few in _own(f"{key}.attack", inner, some):
            yield form.model_copy(update={"attack": attack}), few


def _own(key: str, block: Any, cells: Sequence[Cell]) -> Iterator[tuple[Any, Sequence[Cell]]]:
    overrides = block.overrides if isinstance(block, Overridable) else []
    if not overrides:
        yield block, cells
        return
    alike: dict[tuple[int, ...], list[Cell]] = {}
    for cell in cells:
        place = (cell.task, cell.family, cell.scale, cell.seed)
        alike.setdefault(tuple(i for i, one in enumerate(overrides) if one.where.matches(*place)), []).append(cell)
    for chosen, some in alike.items():
        cell = some[0]
        try:
            form = block.resolve(cell.task, cell.family, cell.scale, cell.seed) if chosen else block
        except ValidationError as error:
            numbers = ", ".join(map(str, chosen))
            raise ValueError(
                f"{key}.overrides: {numbers} together, for {cell.key}: {first_problem(error, {})}; fix one of them"
            ) from error
        yield form, some
