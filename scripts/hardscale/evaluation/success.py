"""Success judged from stored text alone, by the plainest way there is: one text, one forward of the library's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


@torch.no_grad()
def rescore(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """The predicted class of each text: tokenised alone, forwarded alone, no packing, no stored prefix.

    Slow on purpose: it shares nothing with the attacks but the model and the tokenizer, so it can hold them to account.
    A tie goes to the lower class.
    """
    predictions = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt").to(model.device)
        predictions.append(int(model(**inputs).logits[0].argmax()))
    return predictions
