"""How many tokens a model reads."""

from __future__ import annotations

import sys
from typing import Any


def window(model: Any) -> int:
    """Tokens that a transformers model reads at most, by its configuration; ``sys.maxsize`` where it names no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
