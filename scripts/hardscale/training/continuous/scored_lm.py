"""A language model that is asked for the log-probabilities of some tokens at some places, and computes no more."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hardscale.errors import TrainingError
from hardscale.models.outputs import (
    FORWARD_ERRORS,
    body_of,
    embeddings_as,
    failure,
    head_is_last,
    name_of,
    same_losses,
)
from hardscale.runtime.console import say
from hardscale.runtime.memory import is_out_of_memory
from hardscale.training.continuous.losses import complement_log_probabilities, log_probabilities

#: Architectures whose tokens read each other by the attention mask alone and know their place by position ids alone.
_BRANCHING = frozenset(("gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3"))
#: The branch of tokens that all tokens after them in their row read.
BEGINNING = 1


class ScoredLM(nn.Module):
    """The wrapper that both the attack and the training step call.

    The head is computed at the places asked for only, where the family is known to allow it: with a large vocabulary it
    costs more than the body, and prompt tokens need none. Other models are called whole.

    Args:
        lm: a transformers causal language model, with adapters put into it or without.
    """

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        self.config = lm.config
        self._whole = not head_is_last(lm)
        self._accepted = set(inspect.signature(lm.forward).parameters)

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
            inputs_embeds: embeddings, ``(rows, width, hidden)``, in place of those of ``input_ids``; models of families
                that are not known need both.
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
        logits = self._logits(inputs_embeds, input_ids, reads, (rows, columns)).float()
        log_p = log_probabilities(logits, wanted)
        return torch.stack([log_p, complement_log_probabilities(logits, wanted)]) if complement else log_p

    def _logits(
        self, embeds: Tensor, input_ids: Tensor | None, reads: dict[str, Tensor], places: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Logits at some places, shape ``(n, vocabulary)``, of a pass that counts."""
        return self._compute(embeds, input_ids, reads, places)

    def _compute(
        self, embeds: Tensor, input_ids: Tensor | None, reads: dict[str, Tensor], places: tuple[Tensor, Tensor]
    ) -> Tensor:
        more: dict[str, Any] = {**reads, "use_cache": False}
        if not self._whole:
            states = body_of(self.lm)(inputs_embeds=embeds, **more).last_hidden_state
            return self.lm.get_output_embeddings()(states[places])
        assert input_ids is not None
        more = {name: value for name, value in more.items() if name in self._accepted}
        rows, columns = places
        first = 0
        if "logits_to_keep" in self._accepted:
            first, stop = int(columns.min()), int(columns.max()) + 1
            more["logits_to_keep"] = torch.arange(first, stop, device=columns.device)
        # A copy: some architectures scale what they get in place.
        with embeddings_as(self.lm.get_input_embeddings(), lambda _: embeds.clone()):
            return self.lm(input_ids=input_ids, **more).logits[rows, columns - first]

    @torch.no_grad()
    def check(self, tokens: Sequence[int], pad_id: int) -> None:
        """Compare the losses of a padded batch, of some tokens and of fewer, with plain forwards of each alone.

        Where those of the head's rows differ, the model is called whole from then on, and a line says so. What is run
        here is no part of any count of operations.

        Args:
            tokens: of the first row that is trained on; at least 3.
            pad_id: padding token.

        Raises:
            TrainingError: whole forwards differ too, or fail.
        """
        pair = [list(tokens), list(tokens[: max(len(tokens) * 2 // 3, 2)])]
        if self._agrees(pair, pad_id):
            return
        name = name_of(self.lm)
        if not self._whole:
            self._whole = True
            say(f"note: {name}: its head's rows are not those of the whole model; it is called whole, which is slower")
            if self._agrees(pair, pad_id):
                return
        raise TrainingError(
            f"{name}: a sequence's loss is another one in a padded batch than alone, so this architecture cannot be "
            "trained here; use another one"
        )

    def _agrees(self, pair: Sequence[list[int]], pad_id: int) -> bool:
        try:
            return self._same(pair, pad_id)
        except FORWARD_ERRORS as error:
            if is_out_of_memory(error):
                raise
            raise TrainingError(failure(self.lm, "a forward of tokens and their mask alone", error)) from error

    def _same(self, pair: Sequence[list[int]], pad_id: int) -> bool:
        width, device = max(map(len, pair)), self.lm.get_input_embeddings().weight.device
        ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in pair], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in pair], device=device)
        places = [(i, column) for i, row in enumerate(pair) for column in range(len(row) - 1)]
        rows, columns = torch.tensor(places, device=device).T
        logits = self._compute(self.embed(ids), ids, {"attention_mask": mask}, (rows, columns))
        found = log_probabilities(logits.float(), ids[rows, columns + 1])
        wanted = torch.cat([self._alone(row, device) for row in pair])
        return same_losses(found, wanted, self.lm) or not bool(torch.isfinite(wanted).all())

    def _alone(self, row: list[int], device: torch.device) -> Tensor:
        """Log-probabilities of a sequence's tokens after the first, by the library's own forward of it alone."""
        ids = torch.tensor([row], device=device)
        mask = {"attention_mask": torch.ones_like(ids)} if "attention_mask" in self._accepted else {}
        logits = self.lm(input_ids=ids, **mask).logits[0, :-1].float()
        return log_probabilities(logits, ids[0, 1:])


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
