"""Causal language models under attack: cross-entropy of a target text, success when they would write it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from hardscale.attacks.followed import Followed
from hardscale.attacks.packing import MicroBatch, RowBlock
from hardscale.attacks.victim import Inputs, Victim
from hardscale.errors import AttackError
from hardscale.models.outputs import head_is_last

#: Rows of the head computed at once, so that the logits of a whole micro-batch never exist.
_HEAD_ROWS = 512
#: Rows whose whole next-token distribution is held at once.
_SAMPLED_ROWS = 32


class LanguageVictim(Victim):
    """A causal language model that should go on with a target text after the prompt.

    The loss is the mean cross-entropy of the target's tokens, each predicted from the prompt and the target tokens
    before it; success is that every one of them is the model's first choice, so that greedy decoding writes the target.
    The head is computed at the target alone where the family is known to allow it; other models are called whole.

    Args:
        model: an ``AutoModelForCausalLM``.
        tokenizer: its fast tokenizer. Targets are read as they follow a prompt: :meth:`follow`, :meth:`endings_after`.
        targets: the texts wanted; None for a model that is only asked for next tokens.
        names: what each example is called in errors.
        options: of :class:`Victim`.

    Raises:
        AttackError: a target without tokens.
    """

    closing = False

    def __init__(
        self, model: Any, tokenizer: Any, targets: Sequence[str] | None, names: Sequence[str], **options: Any
    ) -> None:
        super().__init__(model, names, **options)
        #: For attacks that read the victim's own replies.
        self.tokenizer = tokenizer
        #: The texts wanted.
        self.targets: list[str] = list(targets) if targets is not None else [""] * len(names)
        if targets is not None:
            self._set_endings([tokenizer(text, add_special_tokens=False)["input_ids"] for text in targets])
        self._followed = Followed(tokenizer)
        self._in_parts = head_is_last(model)
        self.can_cache = self.can_cache and self._in_parts

    def _set_endings(self, endings: Sequence[Sequence[int]]) -> None:
        for name, tokens in zip(self.names, endings, strict=True):
            if not tokens:
                raise AttackError(f"example {name}: the target text has no tokens; give the text that should follow")
        self.endings = [list(tokens) for tokens in endings]
        self.head_products = [len(tokens) * self.n_embeddings for tokens in self.endings]

    def follow(self, prompts: Sequence[str]) -> None:
        """Take a first prompt of each example, which its target is read behind.

        Raises:
            AttackError: a target without tokens behind its prompt.
        """
        self._followed.begin(prompts)
        self._set_endings(self.endings_after(list(enumerate(prompts))))

    def with_targets(self, targets: Sequence[str], prompts: Sequence[str]) -> LanguageVictim:
        """The same victim wanted to go on with other texts, after other first prompts."""
        other = copy.copy(self)
        other.targets, other._followed = list(targets), Followed(self.tokenizer)
        other.follow(prompts)
        return other

    def endings_after(self, prompts: Sequence[tuple[int, str]]) -> list[list[int]]:
        """Tokens of the target of each (example, whole prompt) as they follow that prompt, which is read from its text.

        What a model writes behind a prompt never joins with it; see :meth:`PromptTokens.following`.
        """
        return self._followed.tokens([(example, text, self.targets[example]) for example, text in prompts])

    def judge(self, inputs: Inputs, embeds: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropy of the target, and whether every target token is the first choice."""
        sizes = list(inputs.n_endings)
        counts = torch.tensor(sizes, device=self.device)
        rows = torch.repeat_interleave(torch.arange(len(sizes), device=self.device), counts)
        within = torch.cat([torch.arange(size) for size in sizes]).to(self.device)
        # The token at column c is predicted from column c - 1.
        columns = inputs.last[rows] - counts[rows] + within
        losses, first = self._judge_rows(inputs, embeds, rows, columns, inputs.ids[rows, columns + 1])
        mean = torch.zeros(len(sizes), device=self.device).index_add(0, rows, losses) / counts
        n_first = torch.zeros_like(counts).index_add(0, rows, first.long())
        return mean, n_first == counts

    def _judge_rows(
        self,
        inputs: Inputs,
        embeds: torch.Tensor | None,
        rows: torch.Tensor,
        columns: torch.Tensor,
        wanted: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of each wanted token at its place, and whether it is the first choice there."""
        places, head = self._places(inputs, embeds, rows, columns), self._head()
        losses, first = [], []
        for start in range(0, len(wanted), _HEAD_ROWS):
            part = slice(start, start + _HEAD_ROWS)
            logits = head(places[part]).float()
            losses.append(torch.nn.functional.cross_entropy(logits, wanted[part], reduction="none"))
            first.append(logits.detach().argmax(dim=1) == wanted[part])
        return torch.cat(losses), torch.cat(first)

    def _places(
        self, inputs: Inputs, embeds: torch.Tensor | None, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """What :meth:`_head` takes, at some places of a forward."""
        if self._in_parts:
            return self.hidden(inputs, embeds)[rows, columns]
        if "logits_to_keep" not in self._model_accepts:
            return self.whole(inputs, embeds).logits[rows, columns]
        # All that any row is asked for, in one stretch of columns: with a large vocabulary logits are most of a pass.
        first, stop = int(columns.min()), int(columns.max()) + 1
        kept = self.whole(inputs, embeds, logits_to_keep=torch.arange(first, stop, device=self.device)).logits
        return kept[rows, columns - first]

    def _head(self) -> Any:
        return self.model.get_output_embeddings() if self._in_parts else torch.nn.Identity()

    # --- what the self-check compares -------------------------------------------------------------------------------

    @property
    def in_parts(self) -> bool:
        """Whether the head is computed at the places asked for alone."""
        return self._in_parts

    def call_whole(self) -> None:
        """From now on every forward is one of the whole model, and no prefix is stored."""
        self._in_parts = False
        self.forget()

    def surprises(self, inputs: Inputs, n: int) -> torch.Tensor:
        """Cross-entropies of the last ``n`` tokens of each row, shape ``(rows, n)``."""
        count = len(inputs.examples)
        rows = torch.arange(count, device=self.device).repeat_interleave(n)
        columns = inputs.last[rows] - n + torch.arange(n, device=self.device).repeat(count)
        losses, _ = self._judge_rows(inputs, None, rows, columns, inputs.ids[rows, columns + 1])
        return losses.reshape(count, n)

    def plain_surprises(self, tokens: Sequence[int], n: int) -> torch.Tensor:
        """The same of one prompt by the unmodified model's own forward of it alone, shape ``(n,)``."""
        wanted = torch.tensor(list(tokens[-n:]), device=self.device)
        return torch.nn.functional.cross_entropy(self.plain(tokens)[-n - 1 : -1].float(), wanted, reduction="none")

    def blind_surprise(self, tokens: Sequence[int]) -> torch.Tensor | None:
        """Cross-entropy of the last token by a plain forward of those before it alone."""
        wanted = torch.tensor(tokens[-1], device=self.device)
        return torch.nn.functional.cross_entropy(self.plain(tokens[:-1])[-1].float(), wanted)

    @torch.no_grad()
    def next_logits(self, blocks: Sequence[RowBlock]) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Logits of the token after each row of each block, in the order of the forwards.

        Yields:
            number of the block, row in it, and logits: float32 on the CPU, shape ``(vocabulary,)``.

        Raises:
            AttackError: logits that are not a number; names the example.
        """

        def look(batch: MicroBatch) -> torch.Tensor:
            inputs = self.packed(blocks, batch)
            with self.autocast():
                return self._places(inputs, None, torch.arange(len(inputs.examples), device=self.device), inputs.last)

        for batch, places in self.forwards(blocks, look):
            rows = [(piece.block, row) for piece in batch.slices for row in range(piece.start, piece.stop)]
            for start in range(0, len(rows), _SAMPLED_ROWS):
                part = slice(start, start + _SAMPLED_ROWS)
                with self.autocast():
                    logits = self._head()(places[part]).float().cpu()
                for (block, row), values in zip(rows[part], logits, strict=True):
                    if bool(values.isnan().any()):
                        name = self.names[blocks[block].example]
                        raise AttackError(
                            f"example {name}: next-token logits are not numbers; check the model's weights"
                        )
                    yield block, row, values
