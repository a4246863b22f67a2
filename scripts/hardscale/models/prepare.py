"""Publishing a base model: whatever its source, one plain Hugging Face folder and what is known of it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.publish import Draft, publishing
from hardscale.artifacts.schemas import CHATS, EXAMPLES
from hardscale.artifacts.tables import read_table
from hardscale.errors import ModelError
from hardscale.models import hub
from hardscale.models.check import GGUF_MISSING
from hardscale.models.counts import (
    classifier_parameters,
    generative_parameters,
    has_classifier,
    has_language_model,
)
from hardscale.models.finite import check_finite
from hardscale.models.fit import Ability, Demand, problems
from hardscale.models.flops import pretraining_flops
from hardscale.models.folders import (
    SMALL_FILES,
    WEIGHTS_INDEX,
    folder_problem,
    gguf_header_problem,
    gguf_problem,
    weight_files,
)
from hardscale.models.load import MODEL, named_as, read_config, read_tokenizer, save_model
from hardscale.models.scratch import scratch_config
from hardscale.models.sources import ModelSource, resolve_source
from hardscale.models.tokenizers import N_MARKERS, chat_tokenizer, pieces_tokenizer, text_tokenizer
from hardscale.models.window import vocabulary_of, window_of
from hardscale.settings.models import FamilySettings
from hardscale.untrusted import guarded

UNPINNED = "unpinned"
#: What the facts of a task for chat models say that it is.
CHAT_KIND = "behaviors"


def prepare_model(
    family: str,
    scale: str,
    settings: FamilySettings,
    tasks: list[Path],
    out: Path,
    seed: int,
    root: Path | None = None,
    demands: Sequence[Demand] = (),
) -> None:
    """Publish a ``base_model`` artifact: ``model/`` with configuration, tokenizer and, unless made here, weights.

    A scratch scale has no weights: they are drawn when a classifier or language model is made of it, from that seed.

    Args:
        family: name in the study.
        scale: name in the family.
        settings: of the family; of its scales only this one matters.
        tasks: task artifacts that a scratch family's tokenizer is made for; of no effect on other sources.
        out: the artifact.
        seed: kept in the manifest; preparing draws nothing.
        root: folder in hub layout, looked at before the hub.
        demands: what the study asks of the model, which a configuration that was out of reach before may not meet.

    Raises:
        ModelError: the source is missing, incomplete, pickled, quantized or asks for remote code; its configuration,
            weights and tokenizer are not of one model; or it cannot do what the study asks.
    """
    source = resolve_source(family, scale, settings, root)
    spec = {"family": family, "scale": scale, "settings": settings.model_dump(mode="json"), "seed": seed}
    inputs = {path.name: path for path in tasks} if source.kind == "scratch" else {}
    with publishing(out, "base_model", spec, inputs) as draft:
        folder = draft.path / MODEL
        folder.mkdir()
        if source.kind == "scratch":
            _make(source, settings, tasks, folder)
            std = settings.init_std
            draft.note(init={"std": std, "embedding_std": settings.embedding_std or std})
        elif source.kind == "gguf":
            save_model(*read_gguf(guarded.expanded(source.where, "a .gguf model", ModelError)), folder)
        else:
            _adopt(source, folder, draft)
        with named_as({folder: source.where or source.kind}):
            check_finite(weight_files(folder))
            _note_facts(draft, source, folder, f"{family} {scale}", demands)


def _make(source: ModelSource, settings: FamilySettings, tasks: list[Path], folder: Path) -> None:
    """Configuration and tokenizer of a model without weights; a chat template too where a task is for chat models."""
    assert source.scratch is not None
    facts = {path: open_artifact(path, "task")["facts"] for path in sorted(tasks, key=lambda path: path.name)}
    chats = [path for path in facts if facts[path].get("kind") == CHAT_KIND]
    others = [path for path in facts if path not in chats]
    turns = _chat_texts(chats) if chats else []
    size = settings.tokenizer.vocab_size - (N_MARKERS if chats else 0)
    if settings.tokenizer.kind == "pieces":
        pieces = [piece for path in others for piece in facts[path]["pieces"]]
        tokenizer = pieces_tokenizer(pieces, size)
    else:
        tokenizer = text_tokenizer(_training_texts(others) + turns, size)
    if chats:
        tokenizer = chat_tokenizer(tokenizer)
    config = scratch_config(settings, source.scratch, len(tokenizer), tokenizer.pad_token_id)
    config.eos_token_id = tokenizer.eos_token_id
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _chat_texts(tasks: list[Path]) -> list[str]:
    """Turns of the training conversations of all tasks, as the template writes them but for its markers.

    Raises:
        ModelError: there are none.
    """
    texts = []
    for path in tasks:
        table = read_table(path / "utility.parquet", CHATS)
        for row in table.to_pylist():
            if row["split"] == "train":
                texts += [f"{role}\n{content}" for role, content in zip(row["roles"], row["contents"], strict=True)]
    if not texts:
        raise ModelError(f"{tasks[0]}: no conversations, which a family made here learns from; give the task `utility`")
    return texts


def _training_texts(tasks: list[Path]) -> list[str]:
    """Training prompts of all tasks."""
    texts: list[str] = []
    for path in tasks:
        chunks = read_table(path / "train.parquet", EXAMPLES, ["chunks"]).column("chunks").to_pylist()
        texts += ["".join(parts) for parts in chunks]
    return texts


def _adopt(source: ModelSource, folder: Path, draft: Draft) -> None:
    """Take over a folder written by save_pretrained."""
    if source.kind == "hub":
        origin, commit = hub.fetch(source.where, source.revision)
        draft.note(commit=commit)
    else:
        origin = guarded.expanded(source.where, "a model folder", ModelError)
    problem = folder_problem(origin)
    if problem:
        raise ModelError(f"{source.kind}: {problem}")
    take_over(origin, folder)


def take_over(origin: Path, folder: Path, small_files: Sequence[str] = SMALL_FILES) -> None:
    """Copy the small files of a model folder and link its weights."""
    for name in (*small_files, WEIGHTS_INDEX):
        if (origin / name).is_file():
            shutil.copyfile(origin / name, folder / name)
    for path in weight_files(origin):
        link_or_copy(path, folder / path.name)


def link_or_copy(origin: Path, target: Path) -> None:
    """A hard link where the file system allows one, so that tens of gigabytes are not doubled; a copy elsewhere."""
    origin = origin.resolve()
    try:
        os.link(origin, target)
    except OSError:
        shutil.copyfile(origin, target)


def _note_facts(draft: Draft, source: ModelSource, folder: Path, name: str, demands: Sequence[Demand]) -> None:
    config = read_config(folder)
    values = config.to_dict()
    lines = problems(demands, name, Ability(window_of(values), vocabulary_of(values)))
    if lines:
        raise ModelError(lines[0])
    _check_tokenizer(source, folder, config)
    classifier, generative = sizes(config, source.label)
    facts: dict[str, Any] = {
        "source": source.label,
        "revision": source.revision or UNPINNED,
        "scratch": source.kind == "scratch",
        "has_weights": bool(weight_files(folder)),
        "classifier_parameters": classifier,
        "generative_parameters": generative,
        "pretrain_tokens": source.pretrain_tokens,
        "pretrain_flops": None,
    }
    if source.builtin is not None:
        expected = source.builtin.classifier_parameters
        if classifier != expected:
            raise ModelError(
                f"{source.label}: {classifier or 0:,} parameters as a classifier, but {name} "
                f"has {expected:,}; describe another model with source: models"
            )
        facts["pretrain_flops"] = source.builtin.pretrain_flops
    elif source.pretrain_tokens is not None and generative is not None:
        facts["pretrain_flops"] = pretraining_flops(generative, source.pretrain_tokens)
    draft.note(**facts)


def sizes(config: Any, label: str) -> tuple[int | None, int | None]:
    """Parameters as a classifier and as a language model; None for what transformers does not make of it.

    Args:
        config: of the model.
        label: what the user calls it, for errors.

    Raises:
        ModelError: it is neither.
    """
    try:
        generative = generative_parameters(config) if has_language_model(config) else None
        # What no classifier can be made of can be a language model all the same; whoever needs the other one says so.
        classifier = classifier_parameters(config) if has_classifier(config) or generative is None else None
    except ModelError as error:
        raise ModelError(f"{label}: {error}") from error
    return classifier, generative


def _check_tokenizer(source: ModelSource, folder: Path, config: Any) -> None:
    n_tokens, n_embeddings = len(read_tokenizer(folder)), vocabulary_of(config.to_dict())
    if n_embeddings is None:
        raise ModelError(f"{source.label}: config.json has no vocab_size; give a folder written by save_pretrained")
    if n_tokens > n_embeddings:
        raise ModelError(
            f"{source.label}: the tokenizer has {n_tokens} tokens and the model {n_embeddings} embeddings; "
            "use the tokenizer the model was trained with"
        )


def read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The dequantized language model of a .gguf file and its tokenizer.

    The weights are those of the quantized file, not of the checkpoint it was once made from: say so beside results.

    Raises:
        ModelError: no such file, not GGUF, an architecture that transformers cannot convert, or no package ``gguf``.
    """
    problem = gguf_problem(file)
    if not problem and importlib.util.find_spec("gguf") is not None:
        problem = gguf_header_problem(file)
    if problem:
        raise ModelError(f"gguf: {problem}")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"gguf: {file}: {GGUF_MISSING}")
    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    folder = str(file.parent)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options, **_dequantized())
    except Exception as error:  # the reader raises whatever a malformed file leads it into
        reason = guarded.shown(" ".join(str(error).split())[:200])
        raise ModelError(f"gguf: {file}: cannot be converted ({reason}); convert it elsewhere and use path:") from error
    # A model that remembers its quantizer refuses to be saved.
    model.hf_quantizer = None  # type: ignore[assignment]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _dequantized() -> dict[str, Any]:
    """Newer transformers may keep GGUF weights packed unless told otherwise; older ones always dequantize."""
    config = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": config(dequantize=True)} if config else {}
