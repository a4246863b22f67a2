"""The tables and figures of a study: what it has something to show for."""

from __future__ import annotations

from functools import cached_property

from hardscale.plan.chat_grid import ChatGrid
from hardscale.plan.grid import StudyGrid

FIGURES = (
    "asr_vs_parameters",
    "attack_scaling",
    "attack_comparison",
    "asr_by_round",
    "defense_scaling",
    "offense_defense",
    "clean_accuracy",
)
#: Of a family of chat models with several sizes.
BY_SIZE = "chat_asr_by_size"
#: Of chat models.
CHAT_FIGURES = (
    "robustness_bars",
    "ablations",
    "loss_correlation",
    "embedding_losses",
    "chat_defense_compute",
    BY_SIZE,
)
#: Tables of chat models, written by one rule.
_CHAT_TABLES = (
    *(f"{stem}.{suffix}" for stem in ("utility", "gains", "worst", "correlations") for suffix in ("parquet", "csv")),
    "losses.parquet",
)
#: Figure -> tables that it is drawn from besides runs and fits.
_FIGURE_TABLES = {
    "robustness_bars": ("utility", "worst"),
    "ablations": ("utility", "losses", "cost"),
    "loss_correlation": ("utility", "losses"),
    "embedding_losses": ("losses",),
    "chat_defense_compute": ("utility",),
    BY_SIZE: ("utility",),
    "joint_defense_compute": ("cost",),
}


class Outputs:
    """The tables and figures of a study.

    Args:
        holdings: all that it holds.
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
        return self._tables(*(f"{stem}.parquet" for stem in _FIGURE_TABLES.get(figure, ())))

    def _tables(self, *names: str) -> list[str]:
        return [str(self._grid.layout.table(name)) for name in names]

    @cached_property
    def figure_names(self) -> tuple[str, ...]:
        """The figures that have something to show in this study."""
        kinds = {self._grid.study.is_chat(cell.task) for cell in self._grid.cells}
        chat = [name for name in CHAT_FIGURES if name != BY_SIZE or self._chat.several_sizes]
        joint = ("joint_defense_compute",) if self._chat.c_at_blocks else ()
        return (*(FIGURES if False in kinds else ()), *(chat if True in kinds else ()), *joint)

    def figures(self) -> list[str]:
        """The study's figures."""
        layout = self._grid.layout
        return [str(layout.figure(name, suffix)) for name in self.figure_names for suffix in ("png", "svg")]
