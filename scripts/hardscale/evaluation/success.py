"""Success judged from stored text alone, by the plainest way there is: one text, one forward of the library's model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from hardscale.models.outputs import embeddings_as


@torch.no_grad()
def rescore(
    model: Any, tokenizer: Any, texts: Sequence[str], perturbations: Sequence[torch.Tensor | None] | None = None
) -> list[int]:
    """The predicted class of each text: tokenized alone, forwarded alone, no packing, no stored prefix.

    Slow on purpose: it shares nothing with the attacks but the model and the tokenizer, so it can hold them to account.
    A tie goes to the lower class.

    Args:
        model: a classifier.
        tokenizer: its tokenizer.
        texts: whole prompts.
        perturbations: what is added to the embeddings of each, shape ``(tokens, hidden)``, None for nothing.
    """
    predictions = []
    for text, delta in zip(texts, perturbations or [None] * len(texts), strict=True):
        inputs = dict(tokenizer(text, return_tensors="pt").to(model.device))
        with _shifted(model, delta):
            predictions.append(int(model(**inputs).logits[0].argmax()))
    return predictions


def _shifted(model: Any, delta: torch.Tensor | None) -> contextlib.AbstractContextManager[None]:
    """Inside, which is one forward, the model sees its embeddings with something added to them."""
    if delta is None:
        return contextlib.nullcontext()
    return embeddings_as(model.get_input_embeddings(), lambda embeds: embeds + delta.to(embeds))
