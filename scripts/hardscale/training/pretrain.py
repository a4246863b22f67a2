"""Pretraining of a scratch family: causal language modeling on the tasks' texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import METRICS, TIMING
from hardscale.artifacts.seeds import derive_seed
from hardscale.artifacts.tables import write_table
from hardscale.attacks.codec import Codec
from hardscale.models.flops import pretraining_flops
from hardscale.models.load import MODEL, load_tokenizer, new_language_model, save_model
from hardscale.runtime.console import say
from hardscale.settings.models import PretrainSettings
from hardscale.settings.training import OptimizerSettings
from hardscale.settings.words import from_spec
from hardscale.training import faults
from hardscale.training.batches import Order, Row
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine, weights_dtype
from hardscale.training.loop import Journal, Stretch, train
from hardscale.training.objectives import LanguageModeling
from hardscale.training.optimizers import schedule
from hardscale.training.options import RunOptions
from hardscale.training.pretrain_texts import Texts
from hardscale.training.session import Session

JOB = "pretrain"


def pretrain(
    spec: dict[str, Any], base: Path, tasks: list[Path], state: Path, out: Path, group: Group, options: RunOptions
) -> None:
    """Train a language model on the training texts of some tasks and publish it. Every rank of the gang calls it.

    Tasks for chat models give their ordinary conversations, and none of their behaviors.

    Args:
        spec: ``family``, ``scale``, ``seed``, ``ranks``, ``settings`` (a resolved :class:`PretrainSettings`).
        base: ``base_model`` artifact without weights.
        tasks: ``task`` artifacts.
        state: private folder of this job, for checkpoints.
        out: the ``base_model`` artifact, with weights and the compute that they took.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.
    """
    settings, seed = from_spec(PretrainSettings, spec["settings"]), int(spec["seed"])
    inputs = {"base": base, **{f"task{i}": task for i, task in enumerate(tasks)}}
    session = Session(JOB, state, spec, inputs, group, options)
    base_facts = open_artifact(base, "base_model")["facts"]
    tokenizer = load_tokenizer(base)
    model = new_language_model(base, derive_seed(seed, "weights"), weights_dtype(options))
    codec = Codec(tokenizer, model.config.get_text_config().vocab_size)
    texts = Texts(tasks, tokenizer, codec, settings.max_tokens, seed)
    order = Order(len(texts), settings.batch_size, seed)
    optimizer = OptimizerSettings(
        kind="adamw", learning_rate=settings.learning_rate, warmup_steps=settings.warmup_steps, weight_decay=0.01
    )
    engine = Engine(
        model,
        optimizer,
        factor=schedule(optimizer, settings.steps),
        batch_size=settings.batch_size,
        group=group,
        options=options,
        objective=LanguageModeling(),
    )

    def rows(step: int) -> list[Row]:
        return texts.rows(*order.at(step))

    saved = session.restore(engine)
    journal = Journal(**saved["journal"]) if saved else Journal()
    stretch = Stretch("pretrain", 0, settings.steps, rows, seed)
    train(engine, session, stretch, journal, lambda: {"journal": vars(journal)})
    flops = pretraining_flops(base_facts["generative_parameters"], journal.n_tokens)
    with engine.frozen_module() as module:
        if group.leader:
            with publishing(out, "base_model", spec, inputs) as draft:
                save_model(module, tokenizer, draft.path / MODEL)  # type: ignore[arg-type]
                write_table(draft.path / "metrics.parquet", journal.metrics, METRICS)
                write_table(draft.path / "timing.parquet", journal.timing, TIMING)
                trained = {"has_weights": True, "pretrain_tokens": journal.n_tokens, "pretrain_flops": flops}
                draft.note(**{**base_facts, **trained})
                faults.trip(JOB, "publish", 0, group.rank)
            say(f"pretrained on {journal.n_tokens} tokens, loss {journal.metrics[-1]['loss']:.3f}")
    session.finish()
