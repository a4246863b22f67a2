"""A defense of classifiers: more finetuning, with random tokens where attacks write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardscale.attacks.codec import Codec
from hardscale.models.flops import training_flops
from hardscale.models.load import load_classifier
from hardscale.settings.defenses import RandomText
from hardscale.settings.training import ExposureSettings
from hardscale.settings.words import from_spec
from hardscale.tasks.data import load_split
from hardscale.training.batches import Order, TokenRow
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine, weights_dtype
from hardscale.training.exposure import Exposure
from hardscale.training.loop import TrainHistory, TrainPhase, train
from hardscale.training.optimizers import schedule
from hardscale.training.options import RunOptions
from hardscale.training.publish_model import Release, publish_model
from hardscale.training.session import Session


def random_text(
    spec: dict[str, Any], start: Path, task: Path, state: Path, out: Path, group: Group, options: RunOptions
) -> None:
    """Train a finetuned classifier further and publish it as round 1. Every rank calls it.

    Args:
        spec: ``cell``, ``defense``, ``seed``, ``ranks``, ``settings`` (a resolved :class:`RandomText`), ``max_tokens``.
        start: ``model`` artifact of round 0.
        task: ``task`` artifact.
        state: private folder of this job, for checkpoints.
        out: the ``model`` artifact.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.
    """
    settings, seed = from_spec(RandomText, spec["settings"]), int(spec["seed"])
    inputs = {"start": start, "task": task}
    session = Session("random_text", state, spec, inputs, group, options)
    model, tokenizer = load_classifier(start, weights_dtype(options))
    examples = load_split(task, "train", tokenizer, spec["max_tokens"])
    codec = Codec(tokenizer, model.config.get_text_config().vocab_size)
    exposure = Exposure(codec, ExposureSettings(probability=1.0, max_tokens=settings.n_tokens), seed)
    order = Order(len(examples), settings.batch_size, seed)
    factor = schedule(settings.optimizer, settings.steps)
    sizes = {"batch_size": settings.batch_size, "group": group, "options": options}
    engine = Engine(model, settings.optimizer, factor=factor, **sizes)

    def rows(step: int) -> list[TokenRow]:
        epoch, chosen = order.at(step)
        drawn = [examples[i] for i in chosen]
        encoded = codec.encode_prompts(exposure.texts(drawn, epoch))
        return [TokenRow(e.example_id, ids, e.label) for e, ids in zip(drawn, encoded, strict=True)]

    saved = session.restore(engine)
    history = TrainHistory(**saved["history"]) if saved else TrainHistory()
    phase = TrainPhase("random text", 0, settings.steps, rows, seed)
    train(engine, session, phase, history, lambda: {"history": vars(history)})
    trained = training_flops(engine.n_params, history.n_tokens)
    facts = {"cell": spec["cell"], "defense": spec["defense"], "round": 1, "n_labels": model.config.num_labels}
    facts |= {"training_flops": trained, "generation_flops": 0.0, "defense_flops": trained}
    facts |= {"n_seen_tokens": history.n_tokens, "attack_asr": None}
    validation = load_split(task, "validation", tokenizer, spec["max_tokens"])
    publish_model(engine, session, tokenizer, codec, validation, Release(out, spec, inputs, facts, history))
    session.finish()
