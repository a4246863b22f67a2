"""A language model that is asked for the log-probabilities of some tokens at some places, and computes no more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hardscale.training.continuous.losses import complement_log_probabilities, log_probabilities

#: Settings by which an architecture changes its logits after the head; such models are called whole.
_CHANGED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
#: Architectures whose tokens read each other by the attention mask alone and know their place by position ids alone.
_BRANCHING = frozenset(("gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3"))
#: The branch of tokens that all tokens after them in their row read.
BEGINNING = 1


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

    def takes_branches(self, length: int) -> bool:
        """Whether rows may hold several sequences, each of so many tokens at most, that begin alike."""
        config = self.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        return (
            config.model_type in _BRANCHING
            and getattr(config, "_attn_implementation", None) in ("sdpa", "eager")
            and (window is None or length <= window)
        )

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
        branches: Tensor | None = None,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        delta: Tensor | None = None,
        complement: bool = False,
    ) -> Tensor:
        """Log-probabilities of tokens, each given all tokens before it in its row.

        Args:
            attention_mask: ``(rows, width)``, 1 on tokens; rows are padded on the right.
            rows: row of each token asked for, ``(n,)``.
            columns: the place in its row that it is predicted from, ``(n,)``.
            wanted: its id, ``(n,)``.
            branches: ``(rows, width)`` int64 where rows hold several sequences, for architectures that take them:
                :data:`BEGINNING` on what they share, other numbers on what is one sequence's alone, 0 on padding.
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
        reads = {"attention_mask": attention_mask} if branches is None else _reads(branches, inputs_embeds.dtype)
        logits = self._logits(inputs_embeds, reads, (rows, columns)).float()
        log_p = log_probabilities(logits, wanted)
        return torch.stack([log_p, complement_log_probabilities(logits, wanted)]) if complement else log_p

    def _logits(self, embeds: Tensor, reads: dict[str, Tensor], places: tuple[Tensor, Tensor]) -> Tensor:
        """Logits at some places, shape ``(n, vocabulary)``."""
        inputs: dict[str, Any] = {"inputs_embeds": embeds, **reads, "use_cache": False}
        if self._whole:
            return self.lm(**inputs).logits[places]
        body = getattr(self.lm, self.lm.base_model_prefix)
        return self.lm.get_output_embeddings()(body(**inputs).last_hidden_state[places])


def visible(branches: Tensor) -> Tensor:
    """Which tokens of its row each token reads: itself and those before it of the beginning and of its own branch.

    Args:
        branches: ``(rows, width)``, as :meth:`ScoredLM.forward` takes them.

    Returns:
        bool of shape ``(rows, width, width)``, readers first.
    """
    n = branches.shape[1]
    earlier = torch.ones(n, n, dtype=torch.bool, device=branches.device).tril()
    return earlier & ((branches[:, :, None] == branches[:, None]) | (branches[:, None] == BEGINNING))


def _reads(branches: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """What attention adds to its scores, ``(rows, 1, width, width)``, and each token's place in its sequence."""
    seen = visible(branches)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
    return {"attention_mask": mask[:, None], "position_ids": seen.sum(-1) - 1}
