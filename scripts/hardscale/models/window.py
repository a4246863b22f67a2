"""How many tokens a model reads: of a model, and of a configuration before anything is loaded.

No torch and no transformers here. What counts is the configuration, as transformers makes positions of it: a table of
learned positions ends, and rotary positions are trained up to a length. Sliding windows within attention are no limit,
and `model_max_length` of a tokenizer is none either: it is often absent, or a number without meaning (a few
configurations have a key of that name, which is theirs).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Where configurations say it, the text part's own names first.
_KEYS = (
    *(
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "max_sequence_length",
        "max_encoder_position_embeddings",
    ),
    *("context_length", "n_ctx", "seq_length", "model_max_length"),
)
#: Configurations within configurations that hold the text part.
TEXT_PARTS = ("text_config", "llm_config", "language_config", "decoder", "generator")
#: Positions relative to one another, without an end: other numbers in their configurations are of their training.
_ENDLESS = frozenset({"bloom", "t5", "mt5", "umt5", "longt5", "switch_transformers", "xlnet", "transfo-xl"})
#: Learned positions count from behind the padding token's, so that the table holds fewer than its rows.
_BEHIND_PADDING = frozenset(
    {
        *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "ibert"),
        *("longformer", "luke", "mluke", "mpnet", "xmod", "esm", "markuplm", "layoutlmv3", "lilt"),
    }
)
#: Rotary positions that are stretched: a factor says how far beyond the original length.
_STRETCHED = frozenset({"linear", "dynamic", "yarn"})


class Window(NamedTuple):
    """Tokens that a model reads at most, and the key that says so."""

    tokens: int
    key: str


def window(model: Any) -> int:
    """Tokens that a transformers model reads at most, by its configuration; ``sys.maxsize`` where it names no limit."""
    found = window_of(model.config.to_dict())
    return found.tokens if found else sys.maxsize


def window_of(config: Mapping[str, Any]) -> Window | None:
    """The window of a configuration; None where it names none, or there is none.

    Args:
        config: what a ``config.json`` holds, whatever it holds.
    """
    text = text_part(config)
    kind = text.get("model_type") or config.get("model_type")
    if isinstance(kind, str) and kind in _ENDLESS:
        return None
    for key in _KEYS:
        limit = _count(text.get(key))
        if limit is None and key in text and text[key] is not None:
            return None  # -1 says none in some families
        if limit is not None:
            return Window(_usable(limit, text, kind), key)
    return None


def vocabulary_of(config: Mapping[str, Any]) -> int | None:
    """Embeddings that a configuration says the model has; None where it does not."""
    return _count(text_part(config).get("vocab_size"))


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that is about text: all of it, but of a model of several kinds of input."""
    return next((part for name in TEXT_PARTS if isinstance(part := config.get(name), dict) and part), config)


def _usable(limit: int, text: Mapping[str, Any], kind: Any) -> int:
    if isinstance(kind, str) and kind in _BEHIND_PADDING:
        if kind == "esm" and text.get("position_embedding_type", "absolute") != "absolute":
            return limit
        padding = text.get("pad_token_id")
        first = padding if isinstance(padding, int) and padding >= 0 and kind != "mpnet" else 1
        return max(limit - first - 1, 1)
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(rope, dict) or (rope.get("rope_type") or rope.get("type")) not in _STRETCHED:
        return limit  # of other kinds, and of those with one a kind of layer, the limit is the stretched one already
    if isinstance(kind, str) and kind.startswith("gemma3"):
        return limit  # likewise, whatever its kind
    factor = rope.get("factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 < factor < 1e6:
        return limit
    original = _count(rope.get("original_max_position_embeddings")) or limit
    return max(limit, int(original * factor))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
