"""A language model that is asked for the log-probabilities of some tokens at some places, and computes no more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hardscale.training.continuous.losses import complement_log_probabilities, log_probabilities

#: Settings by which an architecture changes its logits after the head; such models are called whole.
_CHANGED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")


class ScoredLM(nn.Module):
    """The wrapper that both the attack and the training step call.

    The head is computed at the places asked for only: with a large vocabulary it costs more than the body, and prompt
    tokens need none.

    Args:
        lm: a transformers causal language model, with adapters put into it or without.
    """

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        self.config = lm.config
        config = lm.config.get_text_config()
        body = getattr(lm, lm.base_model_prefix, None)
        self._whole = body is None or body is lm or any(getattr(config, key, None) for key in _CHANGED_LOGITS)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embeddings as the embedding module gives them, shape ``(rows, width, hidden)``."""
        return self.lm.get_input_embeddings()(input_ids)

    def forward(
        self,
        attention_mask: Tensor,
        rows: Tensor,
        columns: Tensor,
        wanted: Tensor,
        *,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        delta: Tensor | None = None,
        complement: bool = False,
    ) -> Tensor:
        """Log-probabilities of tokens, each given all tokens before it in its row.

        Args:
            attention_mask: ``(rows, width)``, 1 on tokens; rows are padded on the right.
            rows: row of each token asked for, ``(n,)``.
            columns: its place in its row, from 1 to ``width``, ``(n,)``.
            wanted: its id, ``(n,)``.
            input_ids: tokens, ``(rows, width)``; or give ``inputs_embeds``.
            inputs_embeds: embeddings, ``(rows, width, hidden)``.
            delta: float32, added to the embeddings of ``input_ids``; same shape.
            complement: also ``log(1 - p)``.

        Returns:
            float32 of shape ``(n,)``; with ``complement`` ``(2, n)``: ``log p``, then ``log(1 - p)``.
        """
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = self.embed(input_ids)
            if delta is not None:
                inputs_embeds = inputs_embeds + delta.to(inputs_embeds.dtype)
        places = (rows, columns - 1)  # where a token is predicted from
        logits = self._logits(inputs_embeds, attention_mask, places).float()
        log_p = log_probabilities(logits, wanted)
        return torch.stack([log_p, complement_log_probabilities(logits, wanted)]) if complement else log_p

    def _logits(self, embeds: Tensor, mask: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        """Logits at some places, shape ``(n, vocabulary)``."""
        inputs: dict[str, Any] = {"inputs_embeds": embeds, "attention_mask": mask, "use_cache": False}
        if self._whole:
            return self.lm(**inputs).logits[places]
        body = getattr(self.lm, self.lm.base_model_prefix)
        return self.lm.get_output_embeddings()(body(**inputs).last_hidden_state[places])
