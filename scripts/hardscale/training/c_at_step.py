"""One step of continuous adversarial training of a classifier: attack every row, train on it with and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.perturb import Perturbed, perturb
from hardscale.models.flop_counter import FlopCounter, Length, PassCounts
from hardscale.models.outputs import embeddings_as
from hardscale.settings.defenses import CAt
from hardscale.training.batches import Batch, TokenRow
from hardscale.training.engine import Engine


@dataclass
class ClassifierStepSums:
    """What a step adds up over ranks.

    Attributes:
        clean: summed cross-entropy of the rows as they are.
        adversarial: ... under attack.
        first: ... at the attack's start.
        fell: rows that are misclassified under attack.
        tokens: tokens that could be perturbed.
        projected: of them, how many a step of the attack put back, as a mean over its steps.
        ratios: summed ratios of their perturbations to the radius.
        work: compute done.
        largest: largest ratio; does not add up.
    """

    clean: float = 0.0
    adversarial: float = 0.0
    first: float = 0.0
    fell: float = 0.0
    tokens: float = 0.0
    projected: float = 0.0
    ratios: float = 0.0
    work: PassCounts = field(default_factory=PassCounts)
    largest: float = 0.0

    def values(self) -> list[float]:
        """All that adds up, in order."""
        sums = [self.clean, self.adversarial, self.first, self.fell, self.tokens, self.projected, self.ratios]
        return [*sums, *self.work.values()]

    @classmethod
    def of(cls, values: Sequence[float], largest: float) -> ClassifierStepSums:
        """Of :meth:`values`."""
        clean, adversarial, first, fell, tokens, projected, ratios, *work = values
        return cls(clean, adversarial, first, fell, tokens, projected, ratios, PassCounts(*work), largest)

    def row(self, step: int, n_rows: int) -> dict[str, Any]:
        """A row of TERMS: ``utility`` is of the rows as they are, ``toward`` of the same rows under attack."""
        return {
            "step": step,
            "n_adversarial": n_rows,
            "n_utility": n_rows,
            **{name: int(value) for name, value in vars(self.work).items()},
            "flops_exact": self.work.flops_exact,
            "toward": self.adversarial / n_rows,
            "away": None,
            "utility": self.clean / n_rows,
            "preference": None,
            "attack_loss_first": self.first / n_rows,
            "attack_loss_last": self.adversarial / n_rows,
            "projected_share": self.projected / self.tokens,
            "max_ratio": self.largest,
            "mean_ratio": self.ratios / self.tokens,
        }


class ClassifierStep:
    """Takes the gradients of steps: the mean over rows of ``clean_weight * clean + adversarial_weight * attacked``.

    Args:
        settings: of the defense.
        engine: around a sequence classifier.
        counter: prices what is done.
        mean_norm: mean norm of the vocabulary's embeddings before training.
        seed: of where attacks start.
        unit: what absolute sizes of the attack are in; see :func:`hardscale.attacks.perturb.embedding_factor`.
    """

    def __init__(
        self, settings: CAt, engine: Engine, counter: FlopCounter, mean_norm: float, seed: int, unit: float = 1.0
    ) -> None:
        self._settings, self._engine, self._counter = settings, engine, counter
        self._mean_norm, self._unit, self._seed, self._group = mean_norm, unit, seed, engine.group
        self._lockstep = engine.options.zero_stage == 3  # its forwards are collectives: as many on every rank

    def gradients(self, rows: Sequence[TokenRow], number: int, dropout: int) -> tuple[list[Tensor], ClassifierStepSums]:
        """Gradients of a step's loss; nothing is updated yet.

        Args:
            rows: of the step, the same on every rank.
            number: of the step in the whole training; with a row's key it seeds the attack on that row.
            dropout: seed.

        Returns:
            This rank's row losses (of ``rows[rank::world]``, one tensor a micro-batch), and what all ranks did.
        """
        parts = self._engine.parts(rows)
        batches = [self._engine.collate(part, rows[0]) for part in parts]
        tally, losses = ClassifierStepSums(), list[Tensor]()
        deltas = self._attack(parts, batches, derive_seed(self._seed, "attack", number), tally)

        def loss_of(forward: Callable[..., Any], index: int) -> Tensor:
            clean, attacked, fell = self._both(forward, batches[index], deltas[index])
            n = len(parts[index])
            tally.clean += float(clean[:n].detach().double().sum())
            tally.adversarial += float(attacked[:n].detach().double().sum())
            tally.fell += float(fell[:n].sum())
            tally.work += self._counter.training([Length(len(row.ids), 1) for row in parts[index]] * 2)
            own = self._settings.clean_weight * clean + self._settings.adversarial_weight * attacked
            losses.append(own.detach()[:n])
            return (own * batches[index].weights).sum() / len(rows)

        self._engine.accumulate_parts(range(len(parts)), loss_of, dropout)
        return losses, self._together(tally)

    def _attack(
        self, parts: Sequence[Sequence[TokenRow]], batches: Sequence[Batch], seed: int, tally: ClassifierStepSums
    ) -> list[Tensor]:
        """Perturbations of every micro-batch, shape ``(rows, tokens, hidden)`` each."""
        deltas = []
        with self._engine.frozen_in_place() as module:
            for part, batch in zip(parts, batches, strict=True):
                if not part and not self._lockstep:
                    width = module.get_input_embeddings().embedding_dim  # type: ignore[operator]
                    deltas.append(torch.zeros(*batch.input_ids.shape, width, device=self._group.device))
                    continue
                found = _perturbed(module, part, batch, self._settings, self._mean_norm, seed, self._unit)
                deltas.append(found.delta)
                self._note(part, found, tally)
        return deltas

    def _note(self, part: Sequence[TokenRow], found: Perturbed, tally: ClassifierStepSums) -> None:
        settings, n_tokens = self._settings.attack, int(found.n_tokens.sum())
        lengths = [Length(len(row.ids), 1) for row in part]
        tally.work += self._counter.attack(lengths, settings.steps + (settings.keep == "best"), settings.steps)
        tally.first -= float(found.losses[0, : len(part)].double().sum())
        tally.tokens += n_tokens
        tally.projected += found.projected_share * n_tokens
        tally.ratios += found.mean_ratio * n_tokens
        tally.largest = max(tally.largest, found.max_ratio)

    def _both(self, forward: Callable[..., Any], batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropies of the rows as they are and under attack, and which are misclassified under attack."""
        offset = torch.cat([torch.zeros_like(delta), delta])
        embedding = self._engine.module.get_input_embeddings()  # type: ignore[operator]
        with embeddings_as(embedding, lambda embeds: embeds + offset.to(embeds.dtype)):
            logits = forward(
                input_ids=batch.input_ids.repeat(2, 1), attention_mask=batch.attention_mask.repeat(2, 1)
            ).logits.float()
        losses = cross_entropy(logits, batch.labels.repeat(2), reduction="none")
        fell = logits.detach()[len(delta) :].argmax(dim=1) != batch.labels
        return losses[: len(delta)], losses[len(delta) :], fell

    def _together(self, mine: ClassifierStepSums) -> ClassifierStepSums:
        """What all ranks did."""
        largest = [mine.largest if rank == self._group.rank else 0.0 for rank in range(self._group.world)]
        values = mine.values()
        told = self._group.sum(torch.tensor([*values, *largest], dtype=torch.float64)).tolist()
        return ClassifierStepSums.of(told[: len(values)], max(told[len(values) :]))


def _perturbed(
    module: nn.Module,
    part: Sequence[TokenRow],
    batch: Batch,
    settings: CAt,
    mean_norm: float,
    seed: int,
    unit: float = 1.0,
) -> Perturbed:
    """The untargeted attack on a micro-batch: cross-entropy of the labels is driven up, every row on its own."""
    embedding = module.get_input_embeddings()  # type: ignore[operator]
    with torch.no_grad():
        embeds = embedding(batch.input_ids)

    def losses_of(moved: Tensor) -> Tensor:
        with embeddings_as(embedding, lambda _: moved):
            logits = module(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.float()
        return -cross_entropy(logits, batch.labels, reduction="none")

    fillers = len(batch.labels) - len(part)
    return perturb(
        losses_of,
        embeds,
        batch.attention_mask.bool() & (batch.weights > 0)[:, None],
        settings.attack,
        settings.attack.steps,
        mean_norm,
        [derive_seed(seed, row.key) for row in part] + [0] * fillers,
        names=[str(row.key) for row in part] + ["(padding)"] * fillers,
        unit=unit,
        score_last=False,  # the training step runs the same rows under the same perturbation anyway
    )
