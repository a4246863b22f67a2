"""Publishing a trained classifier: weights, clean evaluation, history and facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hardscale.artifacts.publish import Draft, publishing
from hardscale.artifacts.schemas import CLEAN, METRICS, TIMING
from hardscale.artifacts.tables import write_table
from hardscale.attacks.codec import Codec
from hardscale.models.load import MODEL, save_model
from hardscale.tasks.example import Example
from hardscale.training import faults
from hardscale.training.clean import accuracy, evaluate_clean
from hardscale.training.engine import Engine
from hardscale.training.loop import TrainHistory
from hardscale.training.session import Session


@dataclass(frozen=True)
class Release:
    """What is published besides the weights.

    Attributes:
        folder: where.
        spec: what made it.
        inputs: artifacts it was made from.
        facts: of the manifest; the number of parameters and clean accuracy are added.
        history: training history.
        keep_weights: whether ``model/`` is written.
        add: writes further files into the draft.
    """

    folder: Path
    spec: dict[str, Any]
    inputs: dict[str, Path]
    facts: dict[str, Any]
    history: TrainHistory
    keep_weights: bool = True
    add: Callable[[Draft], None] | None = None


def publish_model(
    engine: Engine, session: Session, tokenizer: Any, codec: Codec, validation: list[Example], release: Release
) -> float:
    """Evaluate on clean validation examples (all ranks) and publish a ``model`` artifact (rank 0).

    Returns:
        Clean accuracy.
    """
    with engine.frozen_module() as module:
        clean = evaluate_clean(module, codec, validation, session.group, tokenizer.pad_token_id)
        if session.group.leader:
            _write(engine, session, tokenizer, module, clean, release)
    session.group.barrier()
    return accuracy(clean)


def _write(
    engine: Engine, session: Session, tokenizer: Any, module: nn.Module, clean: list[dict[str, Any]], release: Release
) -> None:
    with publishing(release.folder, "model", release.spec, release.inputs) as draft:
        if release.keep_weights:
            save_model(module, tokenizer, draft.path / MODEL)  # type: ignore[arg-type]
        write_table(draft.path / "clean.parquet", clean, CLEAN)
        write_table(draft.path / "metrics.parquet", release.history.metrics, METRICS)
        write_table(draft.path / "timing.parquet", release.history.timing, TIMING)
        if release.add:
            release.add(draft)
        draft.note(
            **release.facts,
            n_params=engine.n_params,
            n_clean=len(clean),
            clean_accuracy=accuracy(clean),
            has_weights=release.keep_weights,
            dtype=engine.options.dtype,
            zero_stage=engine.options.zero_stage,
            ranks=session.group.world,
        )
        if engine.adafactor_is_factored is not None:
            draft.note(adafactor="factored" if engine.adafactor_is_factored else "unfactored")
        faults.trip(session.job, "publish", release.facts["round"], session.group.rank)
