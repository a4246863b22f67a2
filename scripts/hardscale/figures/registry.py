"""The figures by name; a job imports only the module of the figure that it draws."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from matplotlib.figure import Figure

from hardscale.errors import StudyError

#: Takes runs, fits, the study's settings and, for some figures, further tables by name.
Draw = Callable[..., Figure]

#: Name of a figure, its file and its caption -> the module that draws it.
FIGURES = {
    name: f"hardscale.figures.{name}"
    for name in (
        "asr_vs_parameters",
        "attack_scaling",
        "asr_by_round",
        "defense_scaling",
        "offense_defense",
        "clean_accuracy",
        "attack_comparison",
        "robustness_bars",
        "ablations",
        "loss_correlation",
        "embedding_losses",
        "chat_defense_compute",
        "chat_asr_by_size",
        "joint_defense_compute",
    )
}


def figure_drawer(name: str) -> Draw:
    """The ``draw`` of a figure.

    Raises:
        StudyError: there is no figure of this name.
    """
    if name not in FIGURES:
        raise StudyError(f"figure {name!r}: not one of {', '.join(FIGURES)}")
    return importlib.import_module(FIGURES[name]).draw
