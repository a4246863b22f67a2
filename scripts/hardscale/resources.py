"""What a job needs on a cluster, from the model's size. Estimates; a profile may override any of them.

Nothing here reaches a job's spec: asking for another machine never retrains a model.
"""

from __future__ import annotations

from typing import Any

from hardscale.models.ladder import BUILTIN_FAMILIES
from hardscale.paths import Lineage
from hardscale.settings import HubScale, ScratchScale
from hardscale.study import Cell, Study

_GB = 1e9
_GPU_BYTES = 80e9
_UNKNOWN_PARAMETERS = 500_000_000


def n_parameters(study: Study, family: str, scale: str) -> int:
    """About how many parameters a scale has: exact for builtin families, from the shape for scratch ones."""
    settings = study.families[family]
    if settings.source == "builtin":
        return BUILTIN_FAMILIES[family][scale].classifier_parameters
    shape = settings.scales[scale] if isinstance(settings.scales, dict) else None
    if isinstance(shape, ScratchScale):
        return 12 * shape.n_layers * shape.width**2 + settings.tokenizer.vocab_size * shape.width
    if isinstance(shape, HubScale) and shape.hub:
        for known in BUILTIN_FAMILIES.values():
            for builtin in known.values():
                if builtin.hub == shape.hub:
                    return builtin.classifier_parameters
    return _UNKNOWN_PARAMETERS


def rounds_per_job(study: Study, cell: Cell) -> int:
    """Adversarial-training rounds of one job: many for small models, where start-up dominates."""
    n = n_parameters(study, cell.family, cell.scale)
    return 20 if n < 2e8 else 5 if n < 2e9 else 2


def training_gpus(n_params: int) -> int:
    """GPUs of 80 GB for float32 training: 4 bytes of weights, 4 of gradients, 8 of optimizer and activations."""
    return max(1, -(-int(16 * n_params) // int(0.85 * _GPU_BYTES)))


class Needs:
    """Resource functions of the rules; ``attempt`` grows memory and time by half at every retry."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def _size(self, wildcards: Any) -> int:
        if hasattr(wildcards, "lineage"):
            cell = Lineage.parse(wildcards.lineage).cell
            return n_parameters(self.study, cell.family, cell.scale)
        if hasattr(wildcards, "cell"):
            cell = Cell.parse(wildcards.cell)
            return n_parameters(self.study, cell.family, cell.scale)
        return n_parameters(self.study, wildcards.family, wildcards.scale)

    def mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Host memory: the process and twice the weights."""
        return int((3_000 + 8 * self._size(wildcards) / 1e6) * 1.5 ** (attempt - 1))

    def runtime(self, wildcards: Any, attempt: int) -> int:
        """Minutes: an hour for the smallest models, growing with size, at most three days."""
        return int(min(60 + self._size(wildcards) / 2e6, 4_320) * 1.5 ** (attempt - 1))

    def disk_mb(self, wildcards: Any) -> int:
        """Disk of a training job: two checkpoints with optimizer state and the published model."""
        return int(500 + 40 * self._size(wildcards) / 1e6)
