"""What a cluster is like, for :mod:`hardscale.plan.estimates`: an optional file, named by the environment.

Nothing here reaches a job's spec: another cluster never retrains a model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from hardscale.errors import StudyError
from hardscale.plan.table import TABLE
from hardscale.settings.blocks import Settings
from hardscale.settings.bounds import Name, Real, TaskName, Whole, size
from hardscale.settings.words import first_problem
from hardscale.untrusted.yaml_values import read_yaml_file

#: Environment variable that names the file.
VARIABLE = "HARDSCALE_SITE"
_PHASES = tuple(dict.fromkeys(kind.estimates for kind in TABLE.values() if kind.estimates))


def _phase(name: str) -> str:
    if name not in _PHASES:
        raise ValueError(f"found {name!r}, allowed are {', '.join(_PHASES)}")
    return name


Phase = Annotated[str, AfterValidator(_phase)]


class CorrectionWhere(Settings):
    """Jobs that a correction is for; an absent key matches all."""

    phase: Annotated[list[Phase], size(100)] | None = None
    family: Annotated[list[Name], size(100)] | None = None
    scale: Annotated[list[Name], size(100)] | None = None
    task: Annotated[list[TaskName], size(100)] | None = None


class CorrectionSet(Settings):
    """What they need instead of the estimate."""

    mem_mb: Annotated[int, Whole(1, 10**9)] | None = None
    runtime: Annotated[int, Whole(1, 10**7)] | None = None
    gpu: Annotated[int, Whole(0, 10_000)] | None = None
    nodes: Annotated[int, Whole(1, 10_000)] | None = None
    zero_stage: Literal[0, 1, 2, 3] | None = None


class Correction(Settings):
    """One correction; later ones win."""

    where: CorrectionWhere = CorrectionWhere()
    set: CorrectionSet


class Site(Settings):
    """A cluster's nodes, and corrections of the estimates."""

    gpus_per_node: Annotated[int, Whole(0, 1_000)] = Field(8, description="0: train and attack on CPUs.")
    ranks_per_node: Annotated[int, Whole(1, 10_000)] | None = Field(
        None, description="gpus_per_node, or all on one node, when absent."
    )
    gpu_memory_gb: Annotated[float, Real(0.001, 10_000)] = 80.0
    gpu_from_parameters: Annotated[int, Whole(0, 10**15)] = Field(5_000_000, description="Smaller models run on CPUs.")
    corrections: Annotated[list[Correction], size(1_000, least=0)] = Field(default_factory=list)


def site_of_environment() -> Site:
    """The site that ``HARDSCALE_SITE`` names, or the defaults; exits with a line for each thing that is wrong."""
    name = os.environ.get(VARIABLE)
    if not name:
        return Site()
    try:
        return read_site(Path(name))
    except StudyError as error:
        raise SystemExit(f"error: {error}") from None


def read_site(path: Path) -> Site:
    """A site file.

    Raises:
        StudyError: not there, not YAML, an unknown key or a wrong value.
    """
    values = read_yaml_file(path, f"the file of {VARIABLE}")
    try:
        return Site.model_validate(values)
    except ValidationError as error:
        raise StudyError(f"{path}: {first_problem(error, values)}; see docs/slurm.md") from error
