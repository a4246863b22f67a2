"""What a job needs on a cluster, from the model's size. Estimates; a site file or a profile may override any of them.

Nothing here reaches a job's spec: asking for another machine never retrains a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from functools import cache
from types import SimpleNamespace
from typing import Any

from hardscale.models.ladder import BUILTIN_FAMILIES
from hardscale.plan.paths import Lineage
from hardscale.plan.site import Site, site_of_environment
from hardscale.plan.table import DEFENDED, FINETUNE, PREPARE_MODEL, JobKind
from hardscale.settings.models import HubScale, ScratchScale
from hardscale.settings.study import Cell, Study
from hardscale.settings.training import OptimizerSettings

_Beside = Callable[[Any], Collection[tuple[str, str]]]
_UNKNOWN_PARAMETERS = 500_000_000
#: Share of a GPU's memory that weights, gradients and optimizer may take; the rest is for activations.
_USABLE = 0.85
_BYTES = 4  # float32
#: Of language modeling, which has no other one.
_PRETRAINING = OptimizerSettings(kind="adamw")


def n_parameters(study: Study, family: str, scale: str) -> int:
    """About how many parameters a scale has: exact for builtin families, from the shape for scratch ones."""
    return _known_parameters(study, family, scale) or _UNKNOWN_PARAMETERS


def smallest_scale(study: Study, family: str) -> str:
    """The scale of a family with the fewest parameters, whatever its place in the list; of equal ones the first.

    Where the size of a scale is not known (a folder without ``n_params`` or a size in its name), the first one listed.
    """
    scales = study.scales(family)
    sizes = [_known_parameters(study, family, scale) for scale in scales]
    known = [size for size in sizes if size is not None]
    return scales[sizes.index(min(known))] if len(known) == len(sizes) else scales[0]


def _known_parameters(study: Study, family: str, scale: str) -> int | None:
    settings = study.families[family]
    if settings.source == "builtin":
        return BUILTIN_FAMILIES[family][scale].classifier_parameters
    shape = settings.scales[scale] if isinstance(settings.scales, dict) else None
    if isinstance(shape, ScratchScale):
        return 12 * shape.n_layers * shape.width**2 + settings.tokenizer.vocab_size * shape.width
    if isinstance(shape, HubScale):
        if shape.n_params:
            return shape.n_params
        for known in BUILTIN_FAMILIES.values():
            for builtin in known.values():
                if shape.hub and builtin.hub == shape.hub:
                    return builtin.classifier_parameters
        return _size_in(scale) or _size_in(shape.hub or "")
    return None


def _size_in(name: str) -> int | None:
    """The size that a name tells: 7e9 of ``zephyr-7b-beta``, 135e6 of ``135m``."""
    found = re.search(r"(?<![\dA-Za-z.])(\d+(?:\.\d+)?)([mb])(?![A-Za-z0-9])", name, flags=re.IGNORECASE)
    return int(float(found[1]) * {"m": 1e6, "b": 1e9}[found[2].lower()]) if found else None


def rounds_per_job(study: Study, cell: Cell) -> int:
    """Adversarial-training rounds of one job: many for small models, where start-up dominates."""
    n = n_parameters(study, cell.family, cell.scale)
    return 20 if n < 2e8 else 5 if n < 2e9 else 2


def n_moments(optimizer: OptimizerSettings) -> int:
    """Numbers that an optimizer keeps for each parameter; rows and columns of a factored Adafactor count as none."""
    return 2 if optimizer.kind == "adamw" else 0 if optimizer.factored else 1


def training_bytes(n_params: int, ranks: int, stage: int, moments: int) -> float:
    """Bytes on each rank of float32 training under a ZeRO stage.

    Weights 4, gradients 4 and 4 bytes a parameter for each of the optimizer's ``moments``; stage 1 shares the moments
    among the ranks, stage 2 the gradients too, stage 3 everything.
    """
    weights, gradients, kept = (_BYTES * n_params, _BYTES * n_params, moments * _BYTES * n_params)
    shared = (kept if stage >= 1 else 0) + (gradients if stage >= 2 else 0) + (weights if stage >= 3 else 0)
    return weights + gradients + kept - shared + shared / ranks


def zero_stage(n_params: int, ranks: int, device_bytes: float, moments: int) -> int:
    """The smallest ZeRO stage whose training state fits a device; 3 when none does, 0 where nothing can be shared."""
    if ranks == 1:
        return 0
    for stage in (0, 1, 2, 3):
        if training_bytes(n_params, ranks, stage, moments) <= _USABLE * device_bytes:
            return stage
    return 3


def _optimizer(block: Any, cell: Cell) -> OptimizerSettings:
    """A block's optimizer for a cell. Resolving validates the whole block, so it is done for overrides only."""
    coordinates = (cell.task, cell.family, cell.scale, cell.seed)
    if any("optimizer" in override.set and override.where.matches(*coordinates) for override in block.overrides):
        found: OptimizerSettings = block.resolve(*coordinates).optimizer
        return found
    return block.optimizer


class ResourceEstimates:
    """Resource functions of the rules; ``attempt`` grows memory and time by half at every retry.

    Args:
        study: what is run.
        kind: of the jobs.
        site: where; that of the environment when None.
        beside: family and scale of the models that a job with some wildcards holds besides its own.
    """

    def __init__(
        self, study: Study, kind: JobKind = PREPARE_MODEL, site: Site | None = None, beside: _Beside | None = None
    ) -> None:
        self.study = study
        self.site = site or site_of_environment()
        self.kind = kind
        self._beside: _Beside = beside or (lambda _: ())
        self._corrected = cache(self._correction)

    def of(self, kind: JobKind, beside: _Beside | None = None) -> ResourceEstimates:
        """The same for another kind of jobs."""
        return ResourceEstimates(self.study, kind, self.site, beside)

    def _place(self, wildcards: Any) -> tuple[str, str, str]:
        """(task, family, scale) of a job."""
        if "family" in self.kind.wildcards:
            return "", wildcards.family, wildcards.scale
        cell = Cell.parse(wildcards.cell) if "cell" in self.kind.wildcards else Lineage.parse(wildcards.lineage).cell
        return cell.task, cell.family, cell.scale

    def _size(self, wildcards: Any) -> int:
        """Parameters of all models that a job holds."""
        held = [self._place(wildcards)[1:], *self._beside(wildcards)]
        return sum(n_parameters(self.study, family, scale) for family, scale in held)

    def _correction(self, name: str, phase: str | None, task: str, family: str, scale: str) -> int | None:
        found = None
        for correction in self.site.corrections:
            where = correction.where
            asked = ((where.phase, phase), (where.task, task), (where.family, family), (where.scale, scale))
            if all(allowed is None or value in allowed for allowed, value in asked):
                value = getattr(correction.set, name)
                found = found if value is None else value
        return found

    def _or_corrected(self, name: str, wildcards: Any, estimate: int) -> int:
        if not self.site.corrections:
            return estimate
        found = self._corrected(name, self.kind.estimates, *self._place(wildcards))
        return estimate if found is None else found

    def mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Host memory of one rank: the process and twice the weights."""
        estimate = int(3_000 + 8 * self._size(wildcards) / 1e6)
        return int(self._or_corrected("mem_mb", wildcards, estimate) * 1.5 ** (attempt - 1))

    def runtime(self, wildcards: Any, attempt: int) -> int:
        """Minutes: an hour for the smallest models, growing with size, at most three days."""
        estimate = int(min(60 + self._size(wildcards) / 2e6, 4_320))
        return int(self._or_corrected("runtime", wildcards, estimate) * 1.5 ** (attempt - 1))

    def disk_mb(self, wildcards: Any) -> int:
        """Disk of a training job: two checkpoints with optimizer state and the published model."""
        return int(500 + 40 * self._size(wildcards) / 1e6)

    def ranks(self, wildcards: Any) -> int:
        """World size of a training job: the study's."""
        return self.study.ranks_of(self._place(wildcards)[2])

    def gpu(self, wildcards: Any) -> int:
        """GPUs of a job: one for each rank, none for small models and on a site without."""
        wanted = self.ranks(wildcards) if self.kind.training else 1  # others are one process
        return self._or_corrected("gpu", wildcards, wanted if self._uses_gpus(wildcards) else 0)

    def _uses_gpus(self, wildcards: Any) -> bool:
        return self.site.gpus_per_node > 0 and self._size(wildcards) >= self.site.gpu_from_parameters

    def nodes(self, wildcards: Any) -> int:
        """Nodes of a training job, the ranks spread evenly: the fewest that hold them."""
        ranks = self.ranks(wildcards)
        per_node = self.site.ranks_per_node or (self.site.gpus_per_node if self._uses_gpus(wildcards) else ranks)
        fewest = next(n for n in range(1, ranks + 1) if ranks % n == 0 and ranks // n <= per_node)
        return self._or_corrected("nodes", wildcards, fewest)

    def zero_stage(self, wildcards: Any) -> int:
        """ZeRO stage of a training job: 0 on CPUs and with one rank, else the smallest that fits a GPU."""
        stage, ranks = 0, self.ranks(wildcards)
        if ranks > 1 and self._uses_gpus(wildcards):
            moments = n_moments(self.optimizer(wildcards))
            stage = zero_stage(self._size(wildcards), ranks, self.site.gpu_memory_gb * 1e9, moments)
        return self._or_corrected("zero_stage", wildcards, stage)

    def may_need_zero(self, family: str, scale: str) -> bool:
        """Whether any training job of a scale may get a stage above 0: cheap, and no for nearly all."""
        of_scale = self.of(PREPARE_MODEL)._uses_gpus(SimpleNamespace(family=family, scale=scale))
        large = self.study.ranks_of(scale) > 1 and of_scale
        return large or any(correction.set.zero_stage for correction in self.site.corrections)

    def without_zero(self, wildcards: Any) -> str:
        """What to set in the site file so that a training job with no moments needs no ZeRO."""
        needed = math.ceil(training_bytes(self._size(wildcards), 1, 0, 0) / _USABLE / 1e9)
        if needed <= self.site.gpu_memory_gb:
            return "the correction zero_stage: 0"
        return f"with GPUs of at least {needed} GB their gpu_memory_gb"

    def optimizer(self, wildcards: Any) -> OptimizerSettings:
        """Optimizer of a training job, overrides applied."""
        if self.kind.phase == DEFENDED:
            lineage = Lineage.parse(wildcards.lineage)
            block = self.study.defenses[lineage.defense]
            return _optimizer(block, lineage.cell) if block.trainer else _PRETRAINING
        return _optimizer(self.study.finetune, Cell.parse(wildcards.cell)) if self.kind == FINETUNE else _PRETRAINING
