"""What the commands that look after a study share: which study, and where."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hardscale.errors import StudyError
from hardscale.ops.cli import DEFAULT_STUDY, study_from_files
from hardscale.plan.jobs import Jobs


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with ``--study`` and ``--directory``."""
    command = argparse.ArgumentParser(description=description)
    command.add_argument("--study", type=Path, default=Path(DEFAULT_STUDY), help=f"default: {DEFAULT_STUDY}")
    command.add_argument("--directory", type=Path, help="working directory of the run, as given to Snakemake")
    return command


def enter(args: argparse.Namespace) -> Jobs:
    """The jobs of the study that was asked for; from here on its working directory is this process's.

    Raises:
        StudyError: there is no such directory.
    """
    jobs = Jobs(study_from_files([args.study]))
    try:
        os.chdir(args.directory or Path())
    except OSError as error:
        raise StudyError(
            f"--directory {args.directory}: {error.strerror}; give the folder that holds results/"
        ) from error
    return jobs
