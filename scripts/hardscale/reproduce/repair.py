"""What to rerun after damage: the targets, the command, and the removal of exactly the damaged folders."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST
from hardscale.errors import ArtifactError
from hardscale.plan.paths import RESULTS
from hardscale.reproduce.inventory import Damage


def targets(root: Path, damages: Sequence[Damage]) -> list[str]:
    """The damaged artifacts as Snakemake's targets, relative to the working directory of the study."""
    here = RESULTS / root.name
    return [(here / damage.folder.relative_to(root) / MANIFEST).as_posix() for damage in damages]


def rerun_command(root: Path, configfiles: Sequence[str], wanted: Sequence[str] = ()) -> str:
    """The command that builds ``wanted`` again, or everything that is missing and what depends on it."""
    command = ["snakemake", "--cores", "all", "--rerun-incomplete"]
    if root.is_absolute():
        command += ["--directory", str(root.parents[1])]
    command += [*wanted]
    if configfiles:
        command += ["--configfile", *configfiles]
    return shlex.join(command)


def remove(root: Path, damages: Sequence[Damage]) -> None:
    """Remove the damaged folders and nothing else.

    Raises:
        ArtifactError: one lies outside of ``root``, is a link, or can not be removed.
    """
    for damage in damages:
        folder = damage.folder
        inside = folder.parent.resolve().is_relative_to(root.resolve()) and folder != root
        if not inside or folder.is_symlink():
            raise ArtifactError(f"{folder}: not a folder inside {root}; remove it by hand")
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise ArtifactError(f"{folder}: can not be removed ({error.strerror}); remove it by hand") from error
