"""Judging a model folder from its files alone, before anything is loaded. No torch and no transformers here."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
#: What of a model folder is taken over, apart from weights. Nothing here can hold code or pickled objects.
SMALL_FILES = (
    "config.json",
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
TOKENIZER_FILES = tuple(name for name in SMALL_FILES if name not in ("config.json", "generation_config.json"))
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_REMOTE_CODE = "auto_map asks to run code from the model folder, which is never done"
_LFS_POINTER = b"version https://git-lfs"


def folder_problem(folder: Path, with_tokenizer: bool = True) -> str | None:
    """What is wrong with a model folder, in one line with the next step; none when it can be loaded.

    It must hold a config without remote code, complete safetensors weights that are not quantised, and a tokenizer
    unless ``with_tokenizer`` is false.
    """
    if not folder.is_dir():
        return f"{folder}: no such folder; give a folder written by save_pretrained"
    config, problem = _read_json(folder / "config.json")
    if problem:
        return problem
    problem = _config_problem(folder, config) or _weights_problem(folder)
    return problem or (tokenizer_problem(folder) if with_tokenizer else None)


def adapter_problem(folder: Path) -> str | None:
    """What is wrong with the folder of a PEFT adapter; none when it can be merged into a model."""
    if not folder.is_dir():
        return f"{folder}: no such folder; give a folder with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"
    path = folder / ADAPTER_CONFIG
    config, problem = _read_json(path)
    if problem:
        return problem
    if config.get("peft_type") != "LORA":
        return f"{path}: peft_type {config.get('peft_type')!r}, allowed is LORA; merge others elsewhere and give `base`"
    if config.get("megatron_config"):
        return f"{path}: megatron_config asks to import a module by name, which is never done; merge it elsewhere"
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        pickled = next((file.name for file in _pickled_files(folder)), None)
        if pickled:
            return (
                f"{folder / pickled}: a pickled adapter is never loaded (it can run code) and there is no "
                f"{ADAPTER_WEIGHTS}; convert it where you trust it"
            )
        return f"{weights}: missing; give an adapter saved by peft"
    return _safetensors_problem(weights) or _kinds_problem(weights)


def _kinds_problem(file: Path) -> str | None:
    """Adapters hold floating-point numbers; whole numbers are packed, quantised ones."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
    kinds = sorted({entry["dtype"] for name, entry in header.items() if name != "__metadata__"})
    odd = [kind for kind in kinds if kind not in _FLOATS]
    return (
        f"{file}: quantised tensors ({', '.join(odd)}) can not be merged; give a full-precision adapter"
        if odd
        else None
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, empty when it has none. The index must be readable."""
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        return [folder / name for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]
    return [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else []


def gguf_problem(file: Path) -> str | None:
    """What is wrong with a .gguf file, judged by its first bytes."""
    if not file.is_file():
        return f"{file}: no such file; give a .gguf file"
    with file.open("rb") as stream:
        start = stream.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        return f"{file}: a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
    if start[:4] != b"GGUF":
        return f"{file}: not a GGUF file (starts with {start[:4]!r}); give a .gguf file, or a folder with path:"
    return None


def _read_json(path: Path) -> tuple[dict[str, Any], str | None]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, f"{path}: missing; give a folder written by save_pretrained"
    except (OSError, ValueError) as error:
        return {}, f"{path}: not readable as JSON ({' '.join(str(error).split())}); fetch or save the model again"
    if not isinstance(value, dict):
        return {}, f"{path}: expected a JSON object, found {type(value).__name__}; fetch or save the model again"
    return value, None


def _config_problem(folder: Path, config: dict[str, Any]) -> str | None:
    if "auto_map" in config:
        return f"{folder / 'config.json'}: {_REMOTE_CODE}; use a model that transformers knows"
    if "model_type" not in config:
        return f"{folder / 'config.json'}: no model_type; give a folder written by save_pretrained"
    quantised = config.get("quantization_config")
    if quantised:
        kind = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
        return f"{folder / 'config.json'}: quantised weights ({kind}) can not be trained; use the full-precision model"
    return None


def _weights_problem(folder: Path) -> str | None:
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        content, problem = _read_json(index)
        if problem:
            return problem
        names = content.get("weight_map")
        if not isinstance(names, dict) or not all(_is_plain_name(name) for name in names.values()):
            return (
                f"{index}: weight_map must map tensors to file names in the same folder; fetch or save the model again"
            )
    files = weight_files(folder)
    if files:
        return next((problem for file in files if (problem := _safetensors_problem(file))), None)
    pickled = sorted(path.name for path in _pickled_files(folder))
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


def _is_plain_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def _pickled_files(folder: Path) -> Iterator[Path]:
    for pattern in _PICKLED:
        yield from folder.glob(pattern)


def _safetensors_problem(file: Path) -> str | None:
    """Compare the length that the header promises with the file's, which finds truncated downloads at no cost."""
    if not file.is_file():
        return f"{file}: named in {WEIGHTS_INDEX} but missing; fetch or save the model again"
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if _LFS_POINTER.startswith(start) and start:
            return f"{file}: a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`"
        header_size = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if header_size > min(size, 100_000_000):
            return f"{file}: not a safetensors file, or truncated; fetch or save the model again"
        try:
            header = json.loads(stream.read(header_size))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return f"{file}: not a safetensors file, or truncated; fetch or save the model again"
    if 8 + header_size + end != size:
        wanted = 8 + header_size + end
        return f"{file}: {size} bytes where its header says {wanted} (truncated?); fetch or save the model again"
    return None


def tokenizer_problem(folder: Path) -> str | None:
    """What is wrong with the tokenizer of a folder; none when it can be loaded."""
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return f"{folder}: no tokenizer (tokenizer.json); save the model's tokenizer into the same folder"
    path = folder / "tokenizer_config.json"
    if path.is_file():
        config, problem = _read_json(path)
        if problem:
            return problem
        if "auto_map" in config:
            return f"{path}: {_REMOTE_CODE}; use a tokenizer that transformers knows"
    return None
