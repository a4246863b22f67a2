"""Continuous adversarial training of a chat model: C-AdvUL and C-AdvIPO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardscale.errors import TrainingError
from hardscale.models.load import load_tokenizer
from hardscale.settings.defenses import CAdvIPO, CAdvUL
from hardscale.settings.words import from_spec
from hardscale.training.continuous.data import Data
from hardscale.training.continuous.job import ContinuousTraining
from hardscale.training.continuous.publish import TrainedFrom
from hardscale.training.distributed import Group
from hardscale.training.options import RunOptions

_BLOCKS: dict[str, type[CAdvUL] | type[CAdvIPO]] = {"c_advul": CAdvUL, "c_advipo": CAdvIPO}


def continuous(
    spec: dict[str, Any], start: Path, task: Path, state: Path, out: Path, group: Group, options: RunOptions
) -> None:
    """Train a chat model against attacks on its embeddings and publish it as round 1. Every rank calls it.

    Args:
        spec: ``cell``, ``defense``, ``seed``, ``ranks``, ``settings`` (resolved :class:`CAdvUL` or :class:`CAdvIPO`).
        start: ``model`` artifact of round 0.
        task: ``task`` artifact of behaviors and conversations.
        state: private folder of this job, for checkpoints.
        out: the ``model`` artifact.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.

    Raises:
        TrainingError: four-bit weights without CUDA, nothing to train on, a loss that is not finite.
    """
    source = TrainedFrom(spec, start, task, out)
    settings = from_spec(_BLOCKS[spec["settings"]["kind"]], spec["settings"])
    tokenizer = load_tokenizer(start)
    _check_precision(settings, group)
    data = Data(task, tokenizer, settings, int(spec["seed"]))
    ContinuousTraining(source, settings, data, tokenizer, state, group, options).run()


def _check_precision(settings: CAdvUL | CAdvIPO, group: Group) -> None:
    if settings.quantize and settings.lora is None:
        raise TrainingError(f"quantize: found {settings.quantize} with lora: null; four-bit weights are not trained")
    if settings.quantize and group.device.type != "cuda":
        raise TrainingError(
            f"quantize: found {settings.quantize}, which needs a CUDA GPU; set quantize: null on this machine"
        )
