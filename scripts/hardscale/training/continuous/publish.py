"""Publishing a chat model that was trained against attacks: merged weights, adapter, history and compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.publish import Draft, publishing
from hardscale.artifacts.schemas import CLEAN, METRICS, TERMS, TIMING
from hardscale.artifacts.tables import write_table
from hardscale.errors import TrainingError
from hardscale.models.chat import load_chat_model
from hardscale.models.flop_counter import PassCounts
from hardscale.models.flops import training_flops
from hardscale.models.load import MODEL, save_model
from hardscale.runtime.console import say
from hardscale.training import faults
from hardscale.training.continuous.history import History
from hardscale.training.continuous.lora import ADAPTER, add_lora, merged, put_weights, save_adapter, trained_weights
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.engine import Engine, weights_dtype
from hardscale.training.session import Session

if TYPE_CHECKING:
    from hardscale.settings.defenses import LoraSettings


@dataclass(frozen=True)
class TrainedFrom:
    """What a training was given: its spec, the model it starts from, its task, and where it publishes.

    Raises:
        TrainingError: the model is not the undefended one of the same cell.
    """

    spec: dict[str, Any]
    start: Path
    task: Path
    out: Path

    def __post_init__(self) -> None:
        facts = open_artifact(self.start, "model")["facts"]
        for key, value in (("cell", self.spec["cell"]), ("defense", "none"), ("round", 0)):
            if facts.get(key) != value:
                raise TrainingError(
                    f"{self.start}: its {key} is {facts.get(key)!r}; {self.spec['defense']!r} starts from {value!r}; "
                    "give round 0 of the same cell"
                )

    @property
    def inputs(self) -> dict[str, Path]:
        """Its artifacts by name."""
        return {"start": self.start, "task": self.task}


def publish(
    engine: Engine,
    session: Session,
    lora: LoraSettings | None,
    source: TrainedFrom,
    history: History,
    facts: dict[str, Any],
) -> None:
    """Publish round 1 as a ``model`` artifact: plain weights whatever was trained. Every rank calls it.

    The published model is the one that training began with, with the trained weights put in; adapters are merged.
    """
    weights = trained_weights(engine.module, engine.options.zero_stage)
    if session.group.leader:
        with publishing(source.out, "model", source.spec, source.inputs) as draft:
            _write_model(draft, source.start, weights, lora, weights_dtype(engine.options))
            write_table(draft.path / "clean.parquet", [], CLEAN)
            write_table(draft.path / "metrics.parquet", history.metrics, METRICS)
            write_table(draft.path / "timing.parquet", history.timing, TIMING)
            write_table(draft.path / "terms.parquet", history.terms, TERMS)
            draft.note(
                **facts,
                cell=source.spec["cell"],
                defense=source.spec["defense"],
                round=1,
                n_clean=0,
                clean_accuracy=None,
                has_weights=True,
                dtype=engine.options.dtype,
                zero_stage=engine.options.zero_stage,
                ranks=session.group.world,
            )
            if engine.adafactor_is_factored is not None:
                draft.note(adafactor="factored" if engine.adafactor_is_factored else "unfactored")
            faults.trip(session.job, "publish", 1, session.group.rank)
        say(f"published {source.out}")
    session.group.barrier()


def compute_facts(history: History, n_params: int, besides: PassCounts) -> dict[str, Any]:
    """Compute of a training, by the papers' convention and as computed.

    Args:
        history: of the training.
        n_params: N of the convention.
        besides: work outside of the steps, which the paper's count of passes leaves out: reference log-probabilities.
    """
    work, trained = history.work, training_flops(n_params, history.n_tokens)
    whole = (work + besides).flops(n_params)
    return {
        "n_params": n_params,
        "training_flops": trained,
        "generation_flops": whole - trained,
        "defense_flops": whole,
        "defense_flops_exact": (work + besides).flops_exact,
        "n_forward_passes": int(work.forward_passes),
        "n_backward_passes": int(work.backward_passes),
        "n_reference_passes": int(besides.forward_passes),
        "n_seen_tokens": history.n_tokens,
    }


def _write_model(
    draft: Draft, start: Path, weights: dict[str, torch.Tensor], lora: LoraSettings | None, dtype: torch.dtype
) -> None:
    lm, tokenizer = load_chat_model(start, dtype)
    handle = add_lora(lm, lora, 0) if lora else None
    put_weights(ScoredLM(lm), weights)
    if handle is not None:
        save_adapter(handle, draft.path / ADAPTER)
        lm = merged(handle)
    save_model(lm, tokenizer, draft.path / MODEL)
