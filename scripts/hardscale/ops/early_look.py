"""A first look at the studies of a Snakemake command line, before Snakemake opens them; imported by its plugin."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

#: Where Snakemake looks for a workflow that it is not told.
_SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
#: What the Snakefile of this workflow says, and those of others do not.
_OURS = "from hardscale.ops.cli import"


class _Options(argparse.ArgumentParser):
    """A parser that leaves it to Snakemake to say what is wrong with a command line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def look_at_studies(command: Sequence[str]) -> None:
    """Exit with one line for a study that cannot be read; of other programs and other workflows nothing is read.

    Args:
        command: the program and its arguments.
    """
    if not command or not _is_snakemake(Path(command[0])):
        return
    options = _Options(add_help=False)
    options.add_argument("--configfile", "--configfiles", nargs="+", default=[], type=Path)
    options.add_argument("--config", "-C", nargs="*")  # no abbreviation of the former
    options.add_argument("--snakefile", "-s", type=Path)
    try:
        given, _ = options.parse_known_args(list(command[1:]))
    except ValueError:
        return
    if given.configfile and _is_ours(given.snakefile):
        _read(given.configfile)


def _is_snakemake(program: Path) -> bool:
    return program.stem == "snakemake" or (program.name == "__main__.py" and program.parent.name == "snakemake")


def _is_ours(given: Path | None) -> bool:
    places = [given] if given else [Path(name) for name in _SNAKEFILES]
    snakefile = next((place for place in places if place.is_file()), None)
    return snakefile is not None and _OURS in snakefile.read_text(encoding="utf-8", errors="replace")


def _read(files: Sequence[Path]) -> None:
    # Not for other workflows that share the environment: what these import takes a quarter of a second.
    from hardscale.errors import StudyError
    from hardscale.runtime.console import printable
    from hardscale.settings.study_file import read_mapping

    try:
        for file in files:
            read_mapping(file)
    except StudyError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
