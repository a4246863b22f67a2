"""Sequence classifiers under attack: cross-entropy of a wrong class, success when the prediction leaves the label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from hardscale.attacks.codec import Codec
from hardscale.attacks.packing import MicroBatch, RowBlock
from hardscale.attacks.victim import Inputs, Victim
from hardscale.errors import AttackError
from hardscale.models.outputs import score_is_last
from hardscale.models.parameters import frozen
from hardscale.runtime.memory import Budget


class ClassifierVictim(Victim):
    """A sequence classifier, whatever it pools.

    Where the family is known to put one ``score`` layer on the last token, that is applied here, which allows stored
    prefixes; other models (BERT's) are called whole.

    Args:
        model: an ``AutoModelForSequenceClassification``, or a training engine's bare module.
        targets: the class that each example is driven to.
        labels: true classes; success is leaving them. Without labels, success is reaching the target.
        names: what each example is called in errors.
        options: of :class:`Victim`.

    Raises:
        AttackError: a target or label is not a class of the model.
    """

    def __init__(
        self,
        model: Any,
        targets: Sequence[int],
        labels: Sequence[int] | None,
        names: Sequence[str],
        **options: Any,
    ) -> None:
        super().__init__(model, names, **options)
        n_labels = int(model.config.num_labels)
        for what, classes in (("target", targets), ("label", labels or ())):
            for name, value in zip(names, classes, strict=False):
                if not 0 <= value < n_labels:
                    raise AttackError(
                        f"example {name}: {what} {value} is not a class of the victim (0 to {n_labels - 1})"
                    )
        self.head_products = [n_labels] * len(self.names)
        self._pooled_here = score_is_last(model)
        self.can_cache = self.can_cache and self._pooled_here
        self.targets = torch.tensor(list(targets), device=self.device)
        self.labels = None if labels is None else torch.tensor(list(labels), device=self.device)

    def logits(self, inputs: Inputs, embeds: torch.Tensor | None) -> torch.Tensor:
        """Class logits of each row, float32, shape ``(rows, n_labels)``."""
        if self._pooled_here:
            states = self.hidden(inputs, embeds)
            rows = torch.arange(states.shape[0], device=states.device)
            return self.model.score(states[rows, self._read_at(inputs)]).float()
        logits: torch.Tensor = self.whole(inputs, embeds).logits
        return logits.float()

    def _read_at(self, inputs: Inputs) -> torch.Tensor:
        """Index of each row's last token that is not the padding token, as the library's own head pools."""
        pad = self.model.config.pad_token_id
        if pad is None:
            return inputs.last
        column = torch.arange(inputs.ids.shape[1], device=inputs.ids.device)
        real = (column <= inputs.last[:, None]) & (inputs.ids != pad)
        return torch.where(real, column, 0).amax(dim=1)

    @property
    def in_parts(self) -> bool:
        """Whether the ``score`` layer is applied here."""
        return self._pooled_here

    def call_whole(self) -> None:
        """From now on every forward is one of the whole model, and no prefix is stored."""
        self._pooled_here = False
        self.forget()

    def surprises(self, inputs: Inputs, n: int) -> torch.Tensor:  # noqa: ARG002 - classes, not tokens
        """Cross-entropies of all classes, shape ``(rows, n_labels)``."""
        return -self.logits(inputs, None).log_softmax(dim=1)

    def plain_surprises(self, tokens: Sequence[int], n: int) -> torch.Tensor:  # noqa: ARG002
        """The same of one prompt by the unmodified model's own forward of it alone, shape ``(n_labels,)``."""
        return -self.plain(tokens).float().log_softmax(dim=0)

    def judge(self, inputs: Inputs, embeds: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of the target class, and whether the prediction is a success (a tie goes to class 0)."""
        logits = self.logits(inputs, embeds)
        examples = torch.tensor(inputs.examples, device=logits.device)
        predictions = logits.detach().argmax(dim=1)
        if self.labels is None:
            successes = predictions == self.targets[examples]
        else:
            successes = predictions != self.labels[examples]
        losses = cross_entropy(logits, self.targets[examples], reduction="none")
        # A logit of minus infinity can leave the loss finite.
        return torch.where(torch.isfinite(logits).all(dim=1), losses, float("nan")), successes


@torch.no_grad()
def classify(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    names: Sequence[str] | None = None,
    tokens_per_batch: int | Budget | None = None,
) -> torch.Tensor:
    """Class logits of whole prompts, batched: float32 on the CPU, shape ``(n, n_labels)``.

    Raises:
        AttackError: logits that are not finite; names the example.
    """
    n_labels = int(model.config.num_labels)
    called = [str(i) for i in range(len(texts))] if names is None else list(names)
    found = torch.empty(len(texts), n_labels)
    with frozen(model):
        victim = ClassifierVictim(
            model, [0] * len(texts), None, called, tokens_per_batch=tokens_per_batch, use_cache=False
        )
        codec = Codec(tokenizer, victim.n_embeddings)
        encoded = codec.encode_prompts(texts)
        victim.check_lengths([len(ids) for ids in encoded])
        blocks = [RowBlock(i, torch.tensor([ids])) for i, ids in enumerate(encoded)]

        def look(batch: MicroBatch) -> None:
            inputs = victim.packed(blocks, batch)
            found[torch.tensor(inputs.examples)] = victim.logits(inputs, None).cpu()

        for _ in victim.forwards(blocks, look):
            pass
    for name, finite in zip(called, torch.isfinite(found).all(dim=1).tolist(), strict=True):
        if not finite:
            raise AttackError(f"example {name}: the victim's logits are not finite; check the model's weights")
    return found
