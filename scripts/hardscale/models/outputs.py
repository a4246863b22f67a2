"""How architectures compute their outputs: what is known of some, and the plain way for all others.

A part of a forward pass may stand for the whole only where a test compares the two, family by family
(``tests/unit/test_architectures.py``). A model of any other family is called whole, with its tokens, as the library
itself would call it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hardscale.errors import ModelError

#: Causal families whose logits are the unembedding of the base model's last hidden states, and nothing else.
HEAD_FAMILIES = frozenset(
    (
        "arcee",
        "bloom",
        "codegen",
        "exaone4",
        "falcon",
        "gemma",
        "gemma3_text",
        "glm",
        "glm4",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "helium",
        "llama",
        "ministral",
        "ministral3",
        "mistral",
        "mixtral",
        "mpt",
        "nemotron",
        "olmo",
        "olmo2",
        "olmo3",
        "olmoe",
        "opt",
        "persimmon",
        "phi",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
    )
)
#: Settings by which some configurations of these families change their logits after the head.
_CHANGED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
#: Classifier families whose logits are one ``score`` layer on the last hidden state of the last token.
SCORE_FAMILIES = frozenset(
    (
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neo",
        "gpt_neox",
        "llama",
        "mistral",
        "mixtral",
        "olmo2",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
        "stablelm",
        "starcoder2",
    )
)
#: Nats that two ways to compute a loss may differ by; coarse types over so many tokens.
_FINE, _COARSE, _FEW = 1e-4, 0.05, 8
#: What a model's forward may fail with that wants other inputs than tokens and a mask.
FORWARD_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError)
#: What follows where a model's embeddings cannot be reached.
NO_PLACE = (
    "gradients and perturbations at embeddings need that; attack it in text without gradients, or use another one"
)


def body_of(model: Any) -> Any:
    """The base model below the head; the model itself where it has none of its own."""
    return getattr(model, model.base_model_prefix, model)


def name_of(model: Any) -> str:
    """Class and architecture, for messages."""
    return f"{type(model).__name__} ({model.config.model_type})"


def failure(model: Any, what: str, error: Exception) -> str:
    """One line on an architecture whose own code fails; ``what`` it was asked for."""
    reason = " ".join(str(error).split())[:200]
    return f"{name_of(model)}: {what} fails ({type(error).__name__}: {reason}); use another architecture"


def head_is_last(model: Any) -> bool:
    """Whether a causal model's logits at a place are its unembedding of the base model's state there."""
    config = model.config.get_text_config()
    return (
        body_of(model) is not model
        and model.config.model_type in HEAD_FAMILIES
        and not any(getattr(config, key, None) for key in _CHANGED_LOGITS)
    )


def score_is_last(model: Any) -> bool:
    """Whether a classifier's logits are its ``score`` layer on the base model's state at the last token."""
    return body_of(model) is not model and hasattr(model, "score") and model.config.model_type in SCORE_FAMILIES


@contextlib.contextmanager
def embeddings_as(embedding: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within this context, one forward pass, the model sees ``change`` of what its embedding module returns.

    The tokens go through the model all the same: many architectures read more from them than embeddings (which token
    is the last one, positions, further tables), and find something else when they are given embeddings instead.

    Raises:
        ModelError: the model does not ask its embedding module exactly once, for the tokens as they stand, so that
            nothing can stand in for what it returns.
    """
    calls = 0

    def stand_in(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        nonlocal calls
        calls += 1
        changed = change(output) if isinstance(output, Tensor) else None
        if changed is None or changed.shape != output.shape:
            raise ModelError(f"the model's embedding module does not return one vector a token; {NO_PLACE}")
        return changed

    handle = embedding.register_forward_hook(stand_in)
    try:
        yield
    finally:
        handle.remove()
    if calls != 1:
        raise ModelError(f"the model asks its embedding module {calls} times in a forward pass, not once; {NO_PLACE}")


def same_losses(found: Tensor, wanted: Tensor, model: nn.Module, dtype: torch.dtype | None = None) -> bool:
    """Whether losses of tokens that were computed in two ways are the same but for rounding.

    With float32 weights each of them is, to 1e-4 nats. In a coarser type single tokens are rounded to a tenth of a nat,
    so the mean of each row is compared, to 0.05, and to as much more as its tokens are fewer than eight. Both grow with
    a loss over 1.

    Args:
        found: shape ``(n,)`` or ``(rows, n)``.
        wanted: the same.
        model: whose weights are in their own types.
        dtype: of autocast, where forwards run under it.
    """
    types = {parameter.dtype for parameter in model.parameters()} if dtype is None else {dtype}
    allowed = _FINE
    if not types <= {torch.float32, torch.float64}:
        allowed = _COARSE * max(1.0, (_FEW / found.shape[-1]) ** 0.5)
        found, wanted = found.mean(dim=-1), wanted.mean(dim=-1)
    return bool(((found - wanted).abs() <= allowed * wanted.abs().clamp(min=1.0)).all())
