"""What a cluster is like, for the estimates of :mod:`hardscale.resources`: an optional file, named by the environment.

Nothing here reaches a job's spec: another cluster never retrains a model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from hardscale.errors import StudyError
from hardscale.settings.blocks import Settings

#: Environment variable that names the file.
VARIABLE = "HARDSCALE_SITE"
Phase = Literal["prepare_model", "pretrain", "finetune", "adversarial_rounds", "continuous", "attack", "utility"]


class CorrectionWhere(Settings):
    """Jobs that a correction is for; an absent key matches all."""

    phase: list[Phase] | None = None
    family: list[str] | None = None
    scale: list[str] | None = None
    task: list[str] | None = None


class CorrectionSet(Settings):
    """What they need instead of the estimate."""

    mem_mb: PositiveInt | None = None
    runtime: PositiveInt | None = None
    gpu: NonNegativeInt | None = None
    nodes: PositiveInt | None = None
    zero_stage: Literal[0, 1, 2, 3] | None = None


class Correction(Settings):
    """One correction; later ones win."""

    where: CorrectionWhere = CorrectionWhere()
    set: CorrectionSet


class Site(Settings):
    """A cluster's nodes, and corrections of the estimates."""

    gpus_per_node: NonNegativeInt = Field(8, description="0: train and attack on CPUs.")
    ranks_per_node: PositiveInt | None = Field(None, description="gpus_per_node, or all on one node, when absent.")
    gpu_memory_gb: PositiveFloat = 80.0
    gpu_from_parameters: NonNegativeInt = Field(5_000_000, description="Smaller models run on CPUs.")
    corrections: list[Correction] = Field(default_factory=list)


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
    try:
        return Site.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, yaml.YAMLError) as error:
        raise StudyError(f"{path} ({VARIABLE}): can not be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StudyError(f"{path}: {place}: {first['msg']}, found {first['input']!r}; see docs/slurm.md") from error
