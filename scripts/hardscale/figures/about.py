"""What each figure says about itself: a module of this package with ``ABOUT`` and ``draw`` is a figure.

Its name is that of its module, of its files and of its caption ``workflow/report/<name>.rst``. Reading what figures say
loads neither them nor what they are drawn with.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from hardscale.artifacts.declared import declared
from hardscale.errors import StudyError

Victims = Literal["classifiers", "chat", "any"]
Table = Literal["claims", "cost", "utility", "losses", "gains", "worst", "correlations"]
Condition = Literal["several_sizes", "continuous_classifiers"]
#: Takes runs, fits, the study's settings and, for figures with further tables, those by name; returns a Figure.
Draw = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class About:
    """A figure as the plan of a study needs it.

    Attributes:
        place: figures are listed by this number, those of one number by name.
        victims: drawn in studies with ``classifiers``, with ``chat`` models, or in ``any``; a caption lists where a
            study differs from the paper in what is about these.
        tables: the tables that it reads besides runs and fits. All but ``claims`` and ``cost`` are of chat models, and
            a study without any has none of these.
        only: a further condition: a family of chat models with ``several_sizes``, or classifiers that are trained by
            continuous attacks (``continuous_classifiers``).
    """

    place: int
    victims: Victims
    tables: tuple[Table, ...] = ()
    only: Condition | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.place, int) or isinstance(self.place, bool):
            raise ValueError(f"place: found {self.place!r}, expected a whole number")
        if self.victims not in get_args(Victims):
            raise ValueError(f"victims: found {self.victims!r}, expected one of {', '.join(get_args(Victims))}")
        if not isinstance(self.tables, tuple) or not set(self.tables) <= set(get_args(Table)):
            raise ValueError(f"tables: found {self.tables!r}, expected a tuple of {', '.join(get_args(Table))}")
        if self.only is not None and self.only not in get_args(Condition):
            raise ValueError(f"only: found {self.only!r}, expected one of {', '.join(get_args(Condition))}")


@cache
def figures() -> dict[str, About]:
    """Every figure by name, in the order in which they are listed.

    Raises:
        StudyError: what a module of this package says is incomplete or wrong.
    """
    found = declared("figures", "ABOUT", About, "draw", always=True)
    return dict(sorted(found.items(), key=lambda item: (item[1].place, item[0])))


def figure_drawer(name: str) -> Draw:
    """The ``draw`` of a figure; no other figure's module is loaded.

    Raises:
        StudyError: there is no figure of this name.
    """
    if name not in figures():
        raise StudyError(f"figure {name!r}: not one of {', '.join(figures())}")
    return importlib.import_module(f"hardscale.figures.{name}").draw
