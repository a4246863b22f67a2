"""The tables and figures of a study: what it has something to show for."""

from __future__ import annotations

from functools import cached_property

from hardscale.figures.about import figures
from hardscale.plan.chat_grid import ChatGrid
from hardscale.plan.grid import StudyGrid

#: Tables of chat models, written by one rule.
_CHAT_TABLES = (
    *(f"{stem}.{suffix}" for stem in ("utility", "gains", "worst", "correlations") for suffix in ("parquet", "csv")),
    "losses.parquet",
)


class Outputs:
    """The tables and figures of a study.

    Args:
        grid: all that it holds.
        chat: of chat models.
    """

    def __init__(self, grid: StudyGrid, chat: ChatGrid) -> None:
        self._grid, self._chat = grid, chat

    def tables(self) -> list[str]:
        """The study's tables."""
        both = [f"{stem}.{suffix}" for stem in ("runs", "fits", "claims", "cost") for suffix in ("parquet", "csv")]
        return [*self._tables(*both, "summary.md"), *self.chat_tables()]

    def chat_tables(self) -> list[str]:
        """Tables of chat models; none without any."""
        return self._tables(*_CHAT_TABLES) if self._chat.cells else []

    def tables_of(self, figure: str) -> list[str]:
        """Tables that a figure is drawn from besides runs and fits."""
        wanted = self._tables(*(f"{stem}.parquet" for stem in figures()[figure].tables))
        made = set(self.tables())
        return [table for table in wanted if table in made]

    def _tables(self, *names: str) -> list[str]:
        return [str(self._grid.layout.table(name)) for name in names]

    @cached_property
    def figure_names(self) -> tuple[str, ...]:
        """The figures that have something to show in this study."""
        chats = {self._grid.study.is_chat(cell.task) for cell in self._grid.cells}
        present = {"classifiers": False in chats, "chat": True in chats, "any": True}
        conditions = {
            None: True,
            "several_sizes": self._chat.several_sizes,
            "continuous_classifiers": bool(self._chat.c_at_blocks),
        }
        return tuple(name for name, about in figures().items() if present[about.victims] and conditions[about.only])

    def figures(self) -> list[str]:
        """The study's figures."""
        layout = self._grid.layout
        return [str(layout.figure(name, suffix)) for name in self.figure_names for suffix in ("png", "svg")]
