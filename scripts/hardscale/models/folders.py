"""Judging a model folder from its files alone, before anything is loaded. No torch and no transformers here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hardscale.errors import ModelError
from hardscale.models.gguf_header import read_header
from hardscale.models.model_config import CONFIG, config_problem, n_layers, read_model_config, read_object
from hardscale.models.safetensors_header import TensorEntry, quantized_kinds, read_safetensors_header
from hardscale.models.window import vocabulary_of
from hardscale.untrusted import guarded

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
#: What of a model folder is taken over, apart from weights. Nothing here can hold code or pickled objects.
SMALL_FILES = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
)
#: What of a folder is the tokenizer's.
TOKENIZER_FILES = tuple(name for name in SMALL_FILES if name not in (CONFIG, "generation_config.json"))
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")
#: Objects of a few settings; vocabularies are left to their library, but for their size and encoding.
_OBJECTS = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_LARGEST_VOCABULARY = 256 * 1024**2
#: Larger vocabularies are not read before a job: they take seconds.
_READ_VOCABULARY = 4 * 1024**2
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_REMOTE_CODE = "auto_map asks to run code from the model folder, which is never done"
_LFS_POINTER = b"version https://git-lfs"
_AGAIN = "fetch or save the model again"
#: A block's number in the names of its tensors; other towers have blocks of their own.
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks?|layer)\.(\d+)\.")
_OTHER_TOWERS = re.compile(r"vis|audio|image|encoder\.|mtp|speech")
#: Blocks that are shared, or counted by another number.
_BLOCKS_OTHERWISE = frozenset({"albert", "zamba", "zamba2", "funnel"})
_EMBEDDINGS = re.compile(r"(?:^|\.)(?:embed_tokens|embed_in|wte|word_embeddings)\.weight$")


def folder_problem(folder: Path, with_tokenizer: bool = True) -> str | None:
    """What is wrong with a model folder, in one line with the next step; none when it can be loaded.

    It must hold a config of a supported kind without remote code, complete safetensors weights that are of that config
    and not quantized, and a tokenizer unless ``with_tokenizer`` is false.
    """
    if not guarded.is_folder(folder):
        return f"{guarded.shown(folder)}: no such folder; give a folder written by save_pretrained"
    try:
        config = read_model_config(folder)
        problem = config_problem(folder / CONFIG, config) or _weights_problem(folder, config)
    except ModelError as error:
        return str(error)
    return (
        problem
        or _object_problem(folder / "generation_config.json")
        or (tokenizer_problem(folder) if with_tokenizer else None)
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, empty when it has none.

    Raises:
        ModelError: the index is malformed.
    """
    index = folder / WEIGHTS_INDEX
    if os.path.lexists(index):
        return [folder / name for name in sorted(set(_weight_map(index).values()))]
    return [folder / WEIGHTS] if os.path.lexists(folder / WEIGHTS) else []


def gguf_problem(file: Path) -> str | None:
    """What is wrong with a .gguf file, judged by its first bytes."""
    try:
        if not os.path.lexists(file):
            return f"{guarded.shown(file)}: no such file; give a .gguf file"
        with guarded.opened(file, "a .gguf model", error=ModelError) as stream:
            start = stream.read(len(_LFS_POINTER))
    except (ModelError, ValueError) as error:
        return str(error)
    if start == _LFS_POINTER:
        return f"{guarded.shown(file)}: a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
    if start[:4] != b"GGUF":
        return (
            f"{guarded.shown(file)}: not a GGUF file (starts with {start[:4]!r}); give a .gguf file, or a folder with "
            "path:"
        )
    return None


def gguf_header_problem(file: Path) -> str | None:
    """What is wrong with the header of a .gguf file, or why a model of its kind cannot be used."""
    try:
        kind = read_header(file).get("general.architecture")
    except ModelError as error:
        return str(error)
    return config_problem(file, {"model_type": kind if isinstance(kind, str) else ""})


def tokenizer_problem(folder: Path) -> str | None:
    """What is wrong with the tokenizer of a folder; none when it can be loaded."""
    try:
        for name in TOKENIZER_FILES:
            path = folder / name
            if not os.path.lexists(path):
                continue
            guarded.regular(path, "a tokenizer", error=ModelError)
            if name in _OBJECTS:
                config = read_object(path, "a tokenizer's settings")
                if name == "tokenizer_config.json" and "auto_map" in config:
                    return f"{guarded.shown(path)}: {_REMOTE_CODE}; use a tokenizer that transformers knows"
            else:
                _check_vocabulary(path)
    except ModelError as error:
        return str(error)
    if not any(os.path.lexists(folder / name) for name in _TOKENIZERS):
        return (
            f"{guarded.shown(folder)}: no tokenizer (tokenizer.json); save the model's tokenizer into the same folder"
        )
    return None


def _check_vocabulary(path: Path) -> None:
    """Size and encoding of a file of a tokenizer; what a small one holds.

    Raises:
        ModelError: it is too large, empty, of another encoding, or no JSON where that is asked for.
    """
    with guarded.opened(path, "a tokenizer", max_bytes=_LARGEST_VOCABULARY, error=ModelError) as stream:
        head = stream.read(len(_LFS_POINTER))
    if not head:
        raise ModelError(f"{guarded.shown(path)}: empty; save the tokenizer again")
    if head == _LFS_POINTER:
        raise ModelError(f"{guarded.shown(path)}: a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    if path.suffix == ".model" or path.stat().st_size > _READ_VOCABULARY:
        return
    if path.suffix == ".json":
        read_object(path, "a tokenizer")
    else:
        guarded.read_text(path, "a tokenizer", error=ModelError)


def _object_problem(path: Path) -> str | None:
    try:
        if os.path.lexists(path):
            read_object(path, "settings of a model")
    except ModelError as error:
        return str(error)
    return None


# --- weights --------------------------------------------------------------------------------------------------------


def _weights_problem(folder: Path, config: Mapping[str, Any]) -> str | None:
    """What is wrong with the weights of a folder, or with them and the configuration together.

    Raises:
        ModelError: a file of them cannot be read.
    """
    files = weight_files(folder)
    if not files:
        return _no_weights(folder)
    tensors: dict[str, TensorEntry] = {}
    index = folder / WEIGHTS_INDEX
    listed = _weight_map(index) if os.path.lexists(index) else None
    for file in files:
        if not os.path.lexists(file):
            return f"{guarded.shown(file)}: named in {WEIGHTS_INDEX} but missing; {_AGAIN}"
        found = read_safetensors_header(file)
        absent = [name for name, place in (listed or {}).items() if place == file.name and name not in found]
        if absent:
            return f"{guarded.shown(index)}: says that {file.name} holds {absent[0]!r}, which it lacks; {_AGAIN}"
        tensors |= found
    kinds = quantized_kinds(tensors)
    if kinds:
        return (
            f"{guarded.shown(files[0])}: quantized tensors ({', '.join(kinds)}) cannot be trained; use the "
            "full-precision model"
        )
    return _mismatch(folder, config, tensors)


def _mismatch(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> str | None:
    """Blocks and embeddings of the weights, where their names tell them, are those of the configuration."""
    named = {name: entry for name, entry in tensors.items() if not _OTHER_TOWERS.search(name)}
    blocks = {int(match[1]) for name in named if (match := _BLOCK.search(name))}
    said = n_layers(config)
    if blocks and said is not None and config.get("model_type") not in _BLOCKS_OTHERWISE:
        least, most = said
        if not least <= max(blocks) + 1 <= most:
            return (
                f"{guarded.shown(folder)}: the weights have {max(blocks) + 1:,} blocks and config.json says {least:,}; "
                "config and weights must be of one model"
            )
    rows = vocabulary_of(config)
    for name, entry in named.items():
        if rows is not None and _EMBEDDINGS.search(name) and entry.shape and entry.shape[0] != rows:
            return (
                f"{guarded.shown(folder)}: {name} has {entry.shape[0]:,} rows and config.json says {rows:,} "
                "embeddings (vocab_size); config and weights must be of one model"
            )
    return None


def _no_weights(folder: Path) -> str:
    pickled = sorted(path.name for path in pickled_files(folder))
    if pickled:
        return (
            f"{folder / pickled[0]}: pickled weights are never loaded (they can run code) and there is no {WEIGHTS}; "
            'convert them where you trust them: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('NEW')\", and copy the tokenizer too"
        )
    adapter = folder / ADAPTER_WEIGHTS
    if adapter.is_file():
        return f"{adapter}: an adapter, not a model; merge it into its base model and save that"
    return f"{folder}: no {WEIGHTS} and no {WEIGHTS_INDEX}; save the model with save_pretrained"


def _weight_map(index: Path) -> dict[str, str]:
    names = read_object(index, "an index of weights").get("weight_map")
    if not isinstance(names, dict) or not names or not all(_is_plain_name(name) for name in names.values()):
        raise ModelError(
            f"{guarded.shown(index)}: weight_map must map tensors to file names in the same folder; {_AGAIN}"
        )
    return names


def _is_plain_name(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and Path(name).name == name and name.endswith(".safetensors")


def pickled_files(folder: Path) -> Iterator[Path]:
    """Files of a folder that are pickled, by their names."""
    for pattern in _PICKLED:
        yield from folder.glob(pattern)
