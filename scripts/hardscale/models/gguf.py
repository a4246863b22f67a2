"""Converting a .gguf file once into an ordinary model folder with float32 weights (package ``gguf``, optional)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hardscale.errors import ModelError
from hardscale.models.check import GGUF_MISSING
from hardscale.models.folders import gguf_header_problem, gguf_problem
from hardscale.untrusted import guarded


def read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The dequantized language model of a .gguf file and its tokenizer.

    The weights are those of the quantized file, not of the checkpoint it was once made from: say so beside results.

    Raises:
        ModelError: no such file, not GGUF, an architecture that transformers can not convert, or no package ``gguf``.
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
        raise ModelError(
            f"gguf: {file}: can not be converted ({reason}); convert it elsewhere and use path:"
        ) from error
    # A model that remembers its quantizer refuses to be saved.
    model.hf_quantizer = None  # type: ignore[assignment]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _dequantized() -> dict[str, Any]:
    """Newer transformers may keep GGUF weights packed unless told otherwise; older ones always dequantize."""
    config = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": config(dequantize=True)} if config else {}
