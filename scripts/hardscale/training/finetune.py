"""Finetuning: the undefended classifier of a cell (section 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.codec import Codec
from hardscale.models.flops import training_flops
from hardscale.models.load import load_tokenizer, new_classifier
from hardscale.runtime.console import say
from hardscale.settings.training import FinetuneSettings
from hardscale.settings.words import from_spec
from hardscale.tasks.data import load_split, load_task
from hardscale.training.batches import Order, TokenRow
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine, weights_dtype
from hardscale.training.exposure import Exposure
from hardscale.training.loop import TrainHistory, TrainPhase, train
from hardscale.training.optimizers import schedule
from hardscale.training.options import RunOptions
from hardscale.training.publish_model import Release, publish_model
from hardscale.training.session import Session

JOB = "finetune"


def finetune(
    spec: dict[str, Any], base: Path, task: Path, state: Path, out: Path, group: Group, options: RunOptions
) -> None:
    """Train a classifier from a base model and publish it as round 0. Every rank of the distributed job calls it.

    Args:
        spec: ``cell``, ``seed``, ``ranks``, ``settings`` (a resolved :class:`FinetuneSettings`), ``max_tokens``.
        base: ``base_model`` artifact.
        task: ``task`` artifact.
        state: private folder of this job, for checkpoints.
        out: the ``model`` artifact.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.
    """
    settings, seed = from_spec(FinetuneSettings, spec["settings"]), int(spec["seed"])
    session = Session(JOB, state, spec, {"base": base, "task": task}, group, options)
    labels = load_task(task).labels
    tokenizer = load_tokenizer(base)
    model = new_classifier(base, len(labels), derive_seed(seed, "head"), weights_dtype(options), labels)
    examples = load_split(task, "train", tokenizer, spec["max_tokens"])
    codec = Codec(tokenizer, model.config.get_text_config().vocab_size)
    exposure = Exposure(codec, settings.exposure, seed)
    order = Order(len(examples), settings.batch_size, seed)
    n_steps = settings.steps or order.n_steps(settings.epochs or 1)
    engine = Engine(
        model,
        settings.optimizer,
        factor=schedule(settings.optimizer, n_steps),
        batch_size=settings.batch_size,
        group=group,
        options=options,
    )

    def rows(step: int) -> list[TokenRow]:
        epoch, chosen = order.at(step)
        drawn = [examples[i] for i in chosen]
        encoded = codec.encode_prompts(exposure.texts(drawn, epoch))
        return [TokenRow(e.example_id, ids, e.label) for e, ids in zip(drawn, encoded, strict=True)]

    saved = session.restore(engine)
    history = TrainHistory(**saved["history"]) if saved else TrainHistory()
    if saved and group.leader:
        say(f"resuming after step {len(history.metrics)} of {n_steps}")
    phase = TrainPhase("finetune", 0, n_steps, rows, seed)
    train(engine, session, phase, history, lambda: {"history": vars(history)})
    facts = {
        "cell": spec["cell"],
        "defense": "none",
        "round": 0,
        "n_labels": len(labels),
        "training_flops": training_flops(engine.n_params, history.n_tokens),
        "generation_flops": 0.0,
        "defense_flops": 0.0,
        "n_seen_tokens": history.n_tokens,
        "attack_asr": None,
    }
    validation = load_split(task, "validation", tokenizer, spec["max_tokens"])[: settings.n_clean]
    release = Release(out, spec, {"base": base, "task": task}, facts, history)
    clean = publish_model(engine, session, tokenizer, codec, validation, release)
    if group.leader:
        say(f"clean accuracy {clean:.3f} on {len(validation)} validation examples")
    session.finish()
