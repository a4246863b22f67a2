"""Pretraining of a scratch family: causal language modeling on the tasks' texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import METRICS, TIMING
from hardscale.artifacts.seeds import derive_seed
from hardscale.artifacts.tables import write_table
from hardscale.attacks.codec import Codec
from hardscale.models.chat import ChatTemplate
from hardscale.models.flops import pretraining_flops
from hardscale.models.load import MODEL, load_tokenizer, new_language_model, save_model
from hardscale.runtime.console import say
from hardscale.settings.models import PretrainSettings
from hardscale.settings.training import ExposureSettings, OptimizerSettings
from hardscale.settings.words import from_spec
from hardscale.tasks.chat import KIND, load_chat_task
from hardscale.tasks.data import load_split
from hardscale.training import faults
from hardscale.training.batches import LanguageModeling, Order, TokenRow
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine, weights_dtype
from hardscale.training.exposure import Exposure
from hardscale.training.loop import TrainHistory, TrainPhase, train
from hardscale.training.optimizers import schedule
from hardscale.training.options import RunOptions
from hardscale.training.session import Session

JOB = "pretrain"


#: Half of the prompts hold random tokens where attacks will write, so that such text is not new to the model.
_EXPOSURE = ExposureSettings(probability=0.5, max_tokens=10)


def pretrain(
    spec: dict[str, Any], base: Path, tasks: list[Path], state: Path, out: Path, group: Group, options: RunOptions
) -> None:
    """Train a language model on the training texts of some tasks and publish it. Every rank calls it.

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

    def rows(step: int) -> list[TokenRow]:
        return texts.rows(*order.at(step))

    saved = session.restore(engine)
    history = TrainHistory(**saved["history"]) if saved else TrainHistory()
    phase = TrainPhase("pretrain", 0, settings.steps, rows, seed)
    train(engine, session, phase, history, lambda: {"history": vars(history)})
    flops = pretraining_flops(base_facts["generative_parameters"], history.n_tokens)
    with engine.frozen_module() as module:
        if group.leader:
            with publishing(out, "base_model", spec, inputs) as draft:
                save_model(module, tokenizer, draft.path / MODEL)  # type: ignore[arg-type]
                write_table(draft.path / "metrics.parquet", history.metrics, METRICS)
                write_table(draft.path / "timing.parquet", history.timing, TIMING)
                trained = {"has_weights": True, "pretrain_tokens": history.n_tokens, "pretrain_flops": flops}
                draft.note(**{**base_facts, **trained})
                faults.trip(JOB, "publish", 0, group.rank)
            say(f"pretrained on {history.n_tokens} tokens, loss {history.metrics[-1]['loss']:.3f}")
    session.finish()


class Texts:
    """The training texts of some tasks as rows.

    Args:
        tasks: ``task`` artifacts.
        tokenizer: of the model.
        codec: the same as batched functions.
        max_tokens: longer rows are cut.
        seed: of what random tokens are put into prompts.
    """

    def __init__(self, tasks: Sequence[Path], tokenizer: Any, codec: Codec, max_tokens: int, seed: int) -> None:
        chats = [path for path in tasks if open_artifact(path, "task")["facts"].get("kind") == KIND]
        merged = [example for path in tasks if path not in chats for example in load_split(path, "train")]
        self._examples = [replace(example, example_id=index) for index, example in enumerate(merged)]
        self._chats = [ids for path in chats for ids in _conversations(path, tokenizer, max_tokens)]
        self._codec, self._max_tokens = codec, max_tokens
        self._exposure = Exposure(codec, _EXPOSURE, seed)

    def __len__(self) -> int:
        return len(self._examples) + len(self._chats)

    def rows(self, epoch: int, chosen: Sequence[int]) -> list[TokenRow]:
        """The rows of some texts as this epoch shows them."""
        n = len(self._examples)
        examples = [self._examples[i] for i in chosen if i < n]
        encoded = self._codec.encode_prompts(self._exposure.texts(examples, epoch))
        prompts = {e.example_id: ids[: self._max_tokens] for e, ids in zip(examples, encoded, strict=True)}
        return [TokenRow(i, prompts[i] if i < n else self._chats[i - n]) for i in chosen]


def _conversations(task: Path, tokenizer: Any, max_tokens: int) -> list[list[int]]:
    chats = load_chat_task(task)
    template = ChatTemplate(tokenizer, chats.facts["system_prompt"])
    return [template.conversation(chat.messages, max_tokens)[0] for chat in chats.utility_train]
