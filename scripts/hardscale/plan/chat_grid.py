"""What chat models and continuous defenses add to a study: lineages with rules of their own, utility, their attacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hardscale.artifacts import paths
from hardscale.plan import table
from hardscale.plan.grid import RoundBlock, StudyGrid
from hardscale.plan.paths import Lineage
from hardscale.settings.study import Cell


class ChatGrid:
    """The instances that chat models and continuous defenses bring.

    Args:
        grid: cells, lineages and settings of the study.
    """

    def __init__(self, grid: StudyGrid) -> None:
        self._grid, self._study, self._layout = grid, grid.study, grid.layout

    @property
    def needed(self) -> bool:
        """Whether the study has chat models or continuous defenses at all."""
        return bool(self.cells or self.c_at_blocks or self.trained() or self.external())

    @property
    def cells(self) -> list[Cell]:
        """Cells of chat models."""
        return [cell for cell in self._grid.cells if self._study.is_chat(cell.task)]

    @property
    def several_sizes(self) -> bool:
        """Whether some family is asked one task at two scales or more."""
        sizes = Counter((task, family) for task, family, _ in {(c.task, c.family, c.scale) for c in self.cells})
        return max(sizes.values(), default=0) > 1

    def trained(self) -> list[Lineage]:
        """Lineages that the continuous rule trains."""
        return self._grid.defended_by(table.CONTINUOUS)

    def external(self) -> list[Lineage]:
        """Lineages whose model somebody else trained."""
        return self._grid.defended_by(table.IMPORT_EXTERNAL)

    @property
    def c_at_blocks(self) -> list[RoundBlock]:
        """Jobs of continuous adversarial training of classifiers, by the number of models that each publishes."""
        found: dict[int, list[Lineage]] = {}
        for lineage in self._grid.defended_by(table.STAGES):
            found.setdefault(self._grid.n_rounds(lineage), []).append(lineage)
        return [
            RoundBlock(f"{table.STAGES.name}_{n:02d}", 1, n, tuple(range(1, n + 1)), lineages)
            for n, lineages in sorted(found.items())
        ]

    def evaluated_models(self) -> Iterator[tuple[str, int]]:
        """Lineage key and round of every chat model that some attack is run on."""
        chats = {cell.key for cell in self.cells}
        return ((key, n) for key, n in self._grid.evaluated if Lineage.parse(key).cell.key in chats)

    def utility_folders(self) -> Iterator[Path]:
        """The folder of every utility job: one for each evaluated chat model."""
        if self._study.utility is not None:
            for key, number in self.evaluated_models():
                yield self._layout.measure(paths.UTILITY, key, number)

    def attack_folders(self) -> Iterator[Path]:
        """The folder of every attack on a chat model."""
        # A large study of classifiers alone has a quarter of a million attacks to look through in vain.
        if not self.cells:
            return iter(())
        attacks = self._grid.attacks()
        return (self._layout.attack(*attack) for attack in attacks if self._study.is_chat(attack[0].split("/")[0]))
