"""Loading and saving models: plain Hugging Face folders, safetensors; no network, remote code or global randomness."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hardscale.artifacts.manifest import open_artifact
from hardscale.errors import ModelError
from hardscale.models.folders import weight_files
from hardscale.models.scratch import initialize_, normal_
from hardscale.untrusted import guarded

#: Folder of the Hugging Face files inside a ``base_model`` or ``model`` artifact.
MODEL = "model"
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@contextlib.contextmanager
def named_as(names: Mapping[Path, Path | str]) -> Iterator[None]:
    """Name the user's folder in errors about a temporary one that its files were laid in.

    Args:
        names: temporary folder -> what the user calls it.
    """
    try:
        yield
    except ModelError as error:
        text = str(error)
        for folder, name in names.items():
            text = text.replace(str(folder), guarded.shown(name))
        raise ModelError(text) from error


@contextlib.contextmanager
def _reading(folder: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn any exception or Rust panic of loading into a one-line ModelError.

    Args:
        folder: that is read.
        what: the reader failed at, "the tokenizer cannot be loaded".
        remedy: the next step.
    """
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"{folder}: {what} ({_reason(error, folder)}); {remedy}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{folder}: {what} (a library panics); {remedy}") from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a ``base_model`` or ``model`` artifact: right padding, end of text as padding where it has none.

    Raises:
        ModelError: it cannot be loaded, or has neither padding nor end of text.
    """
    return read_tokenizer(Path(folder) / MODEL)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Like :func:`load_tokenizer`, of a plain Hugging Face folder."""
    with _reading(folder, "the tokenizer cannot be loaded", "save it again"):
        tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
        _ = len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.all_special_tokens
    for transient in ("is_local", "local_files_only", "trust_remote_code"):
        tokenizer.init_kwargs.pop(transient, None)  # how it was loaded does not belong in what is saved
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"{folder}: the tokenizer has neither a padding nor an end-of-text token; add eos_token to it"
            )
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def new_classifier(
    base_folder: Path,
    n_labels: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    labels: Sequence[str] | None = None,
) -> PreTrainedModel:
    """A classifier to be trained: the base model's body and a new head, in training mode.

    The head is drawn from ``seed`` (standard deviation ``config.initializer_range``), also where the base folder
    already holds a classifier. A scratch base without weights is drawn from ``seed`` as a whole.

    Args:
        base_folder: ``base_model`` artifact.
        n_labels: classes.
        seed: of the new weights; equal seeds give equal models whatever the global random state.
        dtype: of the weights.
        labels: names of the classes, kept in the configuration.

    Raises:
        ModelError: the weights do not fit the configuration, or the architecture has no sequence classifier.
    """
    folder, facts = _base(base_folder)
    config = _classifier_config(folder, n_labels, labels)
    if not weight_files(folder):
        return _drawn(AutoModelForSequenceClassification, folder, config, facts, seed, dtype)
    model, missing = _read(AutoModelForSequenceClassification, folder, config, dtype, may_differ=True)
    head = _head_names(model)
    lost = sorted(name for name in missing - head if "pooler" not in name)
    if lost:
        raise _lacking(folder, lost)
    _initialize_some(model, head | missing, seed)
    return model.train()


def new_language_model(base_folder: Path, seed: int, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A language model to be trained: the base model's weights, or a scratch base drawn from ``seed``; training mode.

    Raises:
        ModelError: the weights do not fit the configuration, or the architecture has no language model.
    """
    folder, facts = _base(base_folder)
    config = _config(folder)
    if not weight_files(folder):
        return _drawn(AutoModelForCausalLM, folder, config, facts, seed, dtype)
    model, missing = _read(AutoModelForCausalLM, folder, config, dtype)
    if missing:
        raise _lacking(folder, sorted(missing))
    return model.train()


def load_classifier(
    folder: Path, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The classifier of a finished ``model`` artifact and its tokenizer, in evaluation mode on the CPU.

    Raises:
        ArtifactError: the artifact is not finished or of another kind.
        ModelError: its files do not make a complete classifier.
    """
    open_artifact(Path(folder), "model")
    return read_classifier(Path(folder) / MODEL, dtype)


def read_classifier(
    folder: Path, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Like :func:`load_classifier`, of a plain Hugging Face folder such as one still being written."""
    model, missing = _read(AutoModelForSequenceClassification, folder, _config(folder), dtype)
    if missing:
        raise _lacking(folder, sorted(missing))
    return model.eval(), read_tokenizer(folder)


def read_language_model(
    folder: Path, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model of a plain Hugging Face folder and its tokenizer, in evaluation mode on the CPU.

    Raises:
        ModelError: its files do not make a complete language model.
    """
    model, missing = _read(AutoModelForCausalLM, folder, _config(folder), dtype)
    if missing:
        raise _lacking(folder, sorted(missing))
    return model.eval(), read_tokenizer(folder)


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    state_dict: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a plain Hugging Face folder; the same weights give the same bytes.

    Args:
        model: what to save.
        tokenizer: saved beside it.
        folder: usually ``draft.path / MODEL``; made when absent.
        state_dict: the weights, where they were gathered from several ranks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {} if state_dict is None else {"state_dict": dict(state_dict)}
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    share_with_readers(folder)


def share_with_readers(folder: Path) -> None:
    """Give weights the permissions of the config beside them (safetensors files come readable by their owner alone)."""
    mode = (folder / "config.json").stat().st_mode & 0o777
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of a plain Hugging Face folder.

    Raises:
        ModelError: it is missing, malformed or of an architecture that transformers does not know.
    """
    with _reading(folder, "config.json cannot be used", "use a model that transformers knows"):
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, **_LOCAL)
        config.get_text_config().to_dict()
        return config


def _base(base_folder: Path) -> tuple[Path, dict[str, Any]]:
    manifest = open_artifact(Path(base_folder), "base_model")
    return Path(base_folder) / MODEL, manifest["facts"]


def _config(folder: Path) -> PretrainedConfig:
    config = read_config(folder)
    tokenizer = read_tokenizer(folder)
    config.pad_token_id = tokenizer.pad_token_id  # without one a decoder's head refuses batches
    config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return config


def _classifier_config(folder: Path, n_labels: int, labels: Sequence[str] | None) -> PretrainedConfig:
    config = _config(folder)
    names = list(labels) if labels is not None else [f"LABEL_{i}" for i in range(n_labels)]
    if len(names) != n_labels:
        raise ModelError(f"labels: found {len(names)} names for {n_labels} classes; give one name a class")
    config.num_labels = n_labels
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    config.problem_type = "single_label_classification"
    return config


def _drawn(
    factory: type, folder: Path, config: PretrainedConfig, facts: dict[str, Any], seed: int, dtype: torch.dtype
) -> PreTrainedModel:
    """A model without a checkpoint, every weight from ``seed``."""
    init = facts.get("init")
    if not init:
        raise ModelError(
            f"{folder}: no weights, and its manifest does not say how to draw them; run prepare_model again"
        )
    with torch.random.fork_rng(devices=[]):
        model = factory.from_config(config, dtype=dtype)  # type: ignore[attr-defined]
    initialize_(model, seed, init["std"], init["embedding_std"])
    return model.train()


def _read(
    factory: type, folder: Path, config: PretrainedConfig, dtype: torch.dtype, may_differ: bool = False
) -> tuple[PreTrainedModel, set[str]]:
    """A model of a checkpoint and the names of what it lacks; with ``may_differ`` also tensors of another shape.

    What is lacking is drawn from the global random state by transformers, which is why that state is put back.
    """
    if type(config) not in factory._model_mapping:  # type: ignore[attr-defined]
        raise ModelError(
            f"{folder}: transformers has no {factory.__name__.removeprefix('Auto')} of model_type "
            f"{config.model_type!r}; use a decoder such as gpt_neox, llama or qwen2"
        )
    what = f"cannot be loaded as {factory.__name__.removeprefix('Auto')}"
    with _reading(folder, what, "config and weights must be of one model"), torch.random.fork_rng(devices=[]):
        model, info = factory.from_pretrained(  # type: ignore[attr-defined]
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=may_differ,
            **_LOCAL,
        )
    return model, set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}


def _head_names(model: PreTrainedModel) -> set[str]:
    body = {id(p) for p in model.base_model.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) not in body}


@torch.no_grad()
def _initialize_some(model: PreTrainedModel, names: Iterable[str], seed: int) -> None:
    std = getattr(model.config.get_text_config(), "initializer_range", None) or 0.02
    parameters = dict(model.named_parameters())
    for name in sorted(names):
        parameter = parameters.get(name)
        if parameter is None:
            continue
        if parameter.dim() >= 2:
            normal_(parameter, seed, name, std)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def _lacking(folder: Path, names: Sequence[str]) -> ModelError:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return ModelError(f"{folder}: the weights lack or do not fit {shown}; config and weights must be of one model")


def _reason(error: BaseException, folder: Path) -> str:
    text = " ".join(str(error).replace(str(folder), "the folder").split())
    return "".join(c for c in text if c.isprintable())[:200] or type(error).__name__
