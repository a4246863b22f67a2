"""Load language models onto the job's device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hardscale.models.chat import load_chat_model


def load_on_device(folder: Path) -> tuple[Any, Any]:
    """A language model and its tokenizer: on the GPU in bfloat16 where there is one, else in float32.

    Raises:
        ArtifactError: the folder is no finished model.
        ModelError: its files do not make a language model.
    """
    on_gpu = torch.cuda.is_available()
    model: Any
    model, tokenizer = load_chat_model(folder, torch.bfloat16 if on_gpu else torch.float32)
    if on_gpu:
        model.cuda()
    return model, tokenizer
