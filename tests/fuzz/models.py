"""Broken model folders, adapters and .gguf files for the fuzzer: each comes out usable or in one line, in no time.

A case is a folder that was right, as its library wrote it, and then broken in one file. It is read by what looks at
models before any job, or by what a job reads them with. Besides errors that are none of ours, long work and messages
that are not one printable line about that folder, it is wrong to refuse what was not broken, and to accept what cannot
be right.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import shutil
import struct
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from hardscale.errors import HardscaleError, ModelError
from hardscale.models.adapters import adapter_problem, quantized_problem
from hardscale.models.check import check_source
from hardscale.models.finite import check_finite
from hardscale.models.fit import ability_of
from hardscale.models.folders import folder_problem, weight_files
from hardscale.models.load import named_as, read_config, read_language_model, read_tokenizer
from hardscale.models.merge import merged
from hardscale.models.prepare import sizes
from hardscale.models.tokenizers import text_tokenizer
from hardscale.settings.models import FamilySettings

#: CPU seconds that a case may take.
LIMIT = 2.0


@dataclass(frozen=True)
class Case:
    """A broken folder.

    Attributes:
        reader: who reads it, a key of READERS.
        file: of the folder, what is broken.
        broken: by what, keys of BREAKS.
        seed: of what is random in that.
    """

    reader: str
    file: str
    broken: tuple[str, ...]
    seed: int

    def __str__(self) -> str:
        return f"{self.reader}: {self.file}: {' and '.join(self.broken)} ({self.seed})"


def cases(seed: int, n: int) -> list[Case]:
    """The first ``n`` cases of a seed."""
    rng = random.Random(seed)
    return [_case(rng) for _ in range(n)]


def check(case: Case) -> str | None:
    """What is wrong with how a case is read; None if nothing is."""
    with tempfile.TemporaryDirectory(prefix="hardscale-fuzz-") as place:
        folder = Path(place) / "model"
        shutil.copytree(_right(), folder)
        rng = random.Random(case.seed)
        for name in case.broken:
            if (folder / case.file).is_file() or name in _NO_FILE:  # what is none is not read to be broken further
                BREAKS[name](rng, folder / case.file)
        began, error, problem = time.process_time(), None, None
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                problem = READERS[case.reader](folder)
            except BaseException as found:  # also what asserts, exits or recurses
                error = found
        seconds = time.process_time() - began
    if seconds > LIMIT:
        return f"{case}: {seconds:.1f} CPU-s"
    if error is not None and not isinstance(error, HardscaleError):
        frames = traceback.extract_tb(error.__traceback__)
        return f"{case}: {type(error).__name__} at {frames[-1] if frames else 'nowhere'}"
    line = str(error) if error is not None else problem
    if case.broken == ("nothing",) and line:
        return f"{case}: refused what is right: {line}"
    if line is None:
        return f"{case}: accepted" if MUST_FAIL.get(case.reader, set()) & set(case.broken[-1:]) else None
    if not line or not line.isprintable() or place not in line:
        return f"{case}: not one printable line about the folder: {line!r:.200}"
    return None


# --- who reads them -------------------------------------------------------------------------------------------------


def _family(**scale: str) -> FamilySettings:
    return FamilySettings.model_validate({"source": "models", "scales": {"s": scale}})


def _look(family: FamilySettings) -> str | None:
    ability_of("mine", "s", family)
    return check_source("mine", "s", family)


def _look_at_adapter(folder: Path) -> str | None:
    return adapter_problem(folder) or quantized_problem(folder, "refuse")


def _in_job(folder: Path) -> None:
    """What preparing and adopting do with a folder that was not refused."""
    if line := folder_problem(folder):
        raise ModelError(line)
    with named_as({}):
        config, tokenizer = read_config(folder), read_tokenizer(folder)
        sizes(config, str(folder))
        if len(tokenizer) > config.get_text_config().vocab_size:
            raise ModelError(f"{folder}: too many tokens")
        check_finite(weight_files(folder))
        read_language_model(folder)


def _merged(folder: Path) -> None:
    adapter = folder / "adapter"
    if line := _look_at_adapter(adapter):
        raise ModelError(line)
    check_finite([adapter / "adapter_model.safetensors"])
    merged(LlamaForCausalLM.from_pretrained(_right()), adapter)


READERS: dict[str, Callable[[Path], str | None]] = {
    "before": lambda folder: _look(_family(path=str(folder))),
    "gguf": lambda folder: _look(_family(gguf=str(folder / "tiny.gguf"))),
    "adapter before": lambda folder: _look_at_adapter(folder / "adapter"),
    "in a job": _in_job,  # type: ignore[dict-item]
    "merged": _merged,  # type: ignore[dict-item]
}
_FILES = {
    "before": ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
    "gguf": ("tiny.gguf",),
    "adapter before": ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/README.md"),
    "in a job": ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"),
    "merged": ("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
}


# --- what is right --------------------------------------------------------------------------------------------------


@functools.cache
def _right() -> Path:
    """A language model with its tokenizer, an adapter on it, and a .gguf header, as their libraries write them."""
    from peft import LoraConfig, get_peft_model

    place = tempfile.TemporaryDirectory(prefix="hardscale-fuzz-right-")
    _KEPT.append(place)
    folder = Path(place.name)
    tokenizer = text_tokenizer(["some words of a text"], 300)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
    )
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder / "adapter")
    _write_gguf(folder / "tiny.gguf")
    return folder


_KEPT: list[Any] = []


def _write_gguf(path: Path) -> None:
    """Version 3 of the format, by hand: numbers, texts and lists of both."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    entries = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.context_length") + struct.pack("<II", 4, 64),
        text("llama.rope.freq_base") + struct.pack("<If", 6, 1e4),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + b"".join(map(text, ("a", "b", "c"))),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ3f", 9, 6, 3, 0.0, 1.0, 2.0),
    ]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries) + b"\0" * 64)


# --- what is broken -------------------------------------------------------------------------------------------------

#: Values that configurations do not have, for any key.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**9, 10**30, -(10**30), 1e300, "", "text", "\x1b[31m", "\0", "\u2028", [], {}),
    *([1], ["a"], {"a": 1}, {"a": {"b": [None]}}, [[[[1]]]], "9" * 5000, "llama", "mamba", "t5", "../../etc/passwd"),
)
_NASTY = (*(bytes([one]) for one in b"\"',:\0\xff\\{}[]9-"), b"\xef\xbb\xbf", b"\\ud800", b"NaN", b"1e999", b"null")


def _value(rng: random.Random, file: Path) -> None:
    """Another value for some key, however deep."""
    with contextlib.suppress(ValueError, OSError, RecursionError):
        values = json.loads(file.read_text())
        place, key = rng.choice(_places(values))
        place[key] = rng.choice(ODD)
        file.write_text(json.dumps(values))


def _places(values: Any) -> list[tuple[Any, Any]]:
    pending, found = [values], []
    while pending and len(found) < 4_000:
        one = pending.pop(0)
        keys: list[Any] = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        found += [(one, key) for key in keys]
        pending += [one[key] for key in keys]
    return found or [({}, "nothing")]


def _no_key(rng: random.Random, file: Path) -> None:
    with contextlib.suppress(ValueError, OSError, RecursionError):
        values = json.loads(file.read_text())
        place, key = rng.choice(_places(values))
        if key in place or isinstance(place, list):
            del place[key]
        file.write_text(json.dumps(values))


def _header(rng: random.Random, file: Path) -> None:
    """Another value in the header of a safetensors file."""
    with contextlib.suppress(ValueError, OSError, struct.error, RecursionError):
        data = file.read_bytes()
        (n,) = struct.unpack("<Q", data[:8])
        values = json.loads(data[8 : 8 + n])
        place, key = rng.choice(_places(values))
        place[key] = rng.choice(ODD)
        text = json.dumps(values).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + n :])


def _bytes(change: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random, Path], None]:
    def changed(rng: random.Random, file: Path) -> None:
        with contextlib.suppress(OSError):
            if file.is_file():
                file.write_bytes(change(rng, file.read_bytes()))

    return changed


def _flip(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    at = rng.randrange(min(len(data), 4_000))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(min(len(data), 4_000) + 1)
    return data[:at] + rng.choice(_NASTY) + data[at:]


def _instead(make: Callable[[Path], Any]) -> Callable[[random.Random, Path], None]:
    def changed(_: random.Random, file: Path) -> None:
        if file.is_dir():
            file.rmdir()
        elif os.path.lexists(file):
            file.unlink()
        make(file)

    return changed


def _not_finite(rng: random.Random, file: Path) -> None:
    with contextlib.suppress(Exception):
        tensors = load_file(file)
        tensors[rng.choice(sorted(tensors))].view(-1)[0] = rng.choice((np.nan, np.inf, -np.inf))
        save_file(tensors, file, {"format": "pt"})


BREAKS: dict[str, Callable[[random.Random, Path], None]] = {
    "nothing": lambda _, file: None,
    "a value": _value,
    "no key": _no_key,
    "a header": _header,
    "a bit": _bytes(_flip),
    "a mark": _bytes(_insert),
    "cut": _bytes(lambda rng, data: data[: rng.randrange(len(data) or 1)]),
    "twice": _bytes(lambda _, data: data + data),
    "empty": _bytes(lambda _, data: b""),
    "UTF-16": _bytes(lambda _, data: b"\xff\xfe" + data),
    "deep": _bytes(lambda _, data: b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "a list": _bytes(lambda _, data: b"[1, 2]"),
    "not finite": _not_finite,
    "a pipe": _instead(os.mkfifo),
    "a folder": _instead(os.mkdir),
    "a device": _instead(lambda file: file.symlink_to("/dev/zero")),
    "a loop": _instead(lambda file: file.symlink_to(file.name)),
}
_NO_FILE = {"empty", "UTF-16", "deep", "a list", "a pipe", "a folder", "a device", "a loop"}
#: Breaks that no reader may take for right, but in a card that need not be there.
MUST_FAIL: dict[str, set[str]] = {
    "before": _NO_FILE,
    "gguf": _NO_FILE,
    "in a job": _NO_FILE | {"not finite"},
    "merged": _NO_FILE | {"not finite"},
}
_OF_JSON = ("a value", "a value", "a value", "no key", "a bit", "a mark", "cut", "twice", *sorted(_NO_FILE))
_OF_WEIGHTS = ("a header", "a header", "a bit", "a mark", "cut", "twice", "not finite", *sorted(_NO_FILE))
_OF_BYTES = ("a bit", "a bit", "a mark", "cut", *sorted(_NO_FILE))


def _case(rng: random.Random) -> Case:
    reader = rng.choice(("before", "before", "before", "gguf", "adapter before", "in a job", "merged"))
    file = rng.choice(_FILES[reader])
    names = _OF_WEIGHTS if file.endswith(".safetensors") else _OF_JSON if file.endswith(".json") else _OF_BYTES
    n = rng.choice((0, 1, 1, 1, 1, 1, 1, 2, 3))
    broken = tuple(rng.choice(names) for _ in range(n)) or ("nothing",)
    if "not finite" in broken:
        broken = ("not finite",)
    return Case(reader, file, broken, rng.randrange(2**32))
