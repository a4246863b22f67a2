"""At which iteration an attack is looked at where a figure or a line shows one alone: the one definition of it.

The published plots over sizes look at different iterations of one attack, by task and by whether the model is
defended (arXiv 2407.18213, its plotting code), so that no task stands at 0 or 1 everywhere. An entry is
``[TASK/]ATTACK[@DEFENSE]`` with an iteration; ``none`` is the undefended model. Of the entries that fit, the most
specific one counts: of those with a task first, then of those with a defense. No torch and no pandas here.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from hardscale.settings.bounds import Patterned

#: As a command line shows it; brackets would confuse its usage line.
METAVAR = "ATTACK=ITER"
HELP = "iteration shown of an attack; TASK/ATTACK=ITER of one task, ATTACK@DEFENSE=ITER of one defense, or both"
_NAME = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
#: An entry of a study: names of a task, an attack and a defense.
HeadlineKey = Annotated[
    str,
    Patterned(
        rf"^(?:[a-z][a-z0-9_]*/)?{_NAME}(?:@{_NAME})?$",
        182,
        "the name of an attack, with a task before it or a defense behind it where only these are meant: "
        "gcg, helpful/gcg, beast@none",
    ),
]


class Entry(NamedTuple):
    """What an entry is of; None stands for all of them."""

    task: str | None
    attack: str
    defense: str | None


def parsed(key: str) -> Entry:
    """The parts of an entry of a study."""
    task, _, rest = key.rpartition("/")
    attack, _, defense = rest.partition("@")
    return Entry(task or None, attack, defense or None)


def entry_for(headline: Mapping[str, int], task: str, attack: str, defense: str) -> str | None:
    """The entry that counts for an attack on a task's models with a defense; None where no entry fits."""
    fitting = (f"{task}/{attack}@{defense}", f"{task}/{attack}", f"{attack}@{defense}", attack)
    return next((key for key in fitting if key in headline), None)


def argument(text: str) -> tuple[str, int]:
    """An entry of a command line, ``gcg=10`` or ``helpful/gcg=2``.

    Raises:
        ArgumentTypeError: it is none.
    """
    key, sign, iteration = text.rpartition("=")
    if not (key and sign and iteration.isascii() and iteration.isdecimal() and int(iteration) > 0):
        raise ArgumentTypeError(f"{text!r}: give [TASK/]ATTACK[@DEFENSE]=ITERATION, e.g. gcg=10")
    return key, int(iteration)
