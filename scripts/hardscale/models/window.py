"""How many tokens a model reads."""

from __future__ import annotations

import sys
from typing import Any


def window(model: Any) -> int:
    """Tokens that a transformers model reads at most, by its configuration; ``sys.maxsize`` where it names no limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if limit and limit > 0 else sys.maxsize  # -1 says none in some families
