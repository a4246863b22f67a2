"""What a step minimizes: C-AdvUL and C-AdvIPO as sums over tokens and rows, whatever the micro-batches and ranks.

Each is a weighted sum of terms, a term a mean behind a cut-off. Gradients need the means' counts, which every rank
knows beforehand, and the slopes of the cut-offs, which depend on the means themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hardscale.settings.defenses import CAdvIPO, CAdvUL
from hardscale.training.continuous import losses
from hardscale.training.continuous.packing import PackedBatch, Term, TokenSequence, sequences_of
from hardscale.training.continuous.rows import Conversation, Part, Triple

#: Terms by their place in every vector of this module: the means over tokens, then that over adversarial rows.
NAMES = ("toward", "away", "utility", "preference")
_N = len(NAMES)


class ContinuousObjective(ABC):
    """A weighted sum of terms.

    Attributes:
        answers: adversarial sequences that are trained on.
        complement: whether it needs ``log(1 - p)``.
        weights: of the terms.
        cutoffs: mean below which a term flattens, or None.
    """

    answers: tuple[Term, ...] = (Term.TOWARD, Term.AWAY)
    complement = False
    weights: tuple[float, ...]
    cutoffs: tuple[float | None, ...] = (None,) * _N

    @property
    def terms(self) -> tuple[Term, ...]:
        """Sequences that are trained on."""
        return (*self.answers, Term.UTILITY)

    @abstractmethod
    def sums(self, scores: Tensor, sheet: PackedBatch, part: Part) -> Tensor:
        """Sums of the terms over a part, shape ``(4,)``, float32 and differentiable.

        Args:
            scores: log-probabilities ``(n,)`` of the scored tokens; ``(2, n)`` with their complements.
            sheet: the part's sequences.
            part: its rows.
        """

    def counts(self, rows: Sequence[Triple | Conversation]) -> list[int]:
        """What the means of the terms over some rows are divided by; 0 for a term without any."""
        lines = self._lines(rows)
        labels = [sum(line.n_labels for line in lines if line.term == term) for term in Term]
        return [*labels, sum(isinstance(row, Triple) for row in rows) if self.weights[-1] else 0]

    def n_tokens(self, rows: Sequence[Triple | Conversation]) -> int:
        """Tokens that are trained on in some rows, prompts included."""
        return sum(len(line.ids) for line in self._lines(rows))

    def _lines(self, rows: Sequence[Triple | Conversation]) -> list[TokenSequence]:
        triples = tuple(row for row in rows if isinstance(row, Triple))
        return sequences_of(Part(triples, tuple(row for row in rows if isinstance(row, Conversation))), self.terms)

    def means(self, sums: Sequence[float], counts: Sequence[int]) -> list[float | None]:
        """The terms; None for one that nothing in these rows belongs to."""
        return [total / count if count else None for total, count in zip(sums, counts, strict=True)]

    def slopes(self, sums: Sequence[float], counts: Sequence[int]) -> list[float]:
        """Slopes of the cut-offs at these means."""
        return [
            1.0 if mean is None else losses.slope(mean, cutoff)
            for mean, cutoff in zip(self.means(sums, counts), self.cutoffs, strict=True)
        ]

    def loss(self, sums: Tensor, counts: Sequence[int], slopes: Sequence[float]) -> Tensor:
        """Scalar whose gradient is the objective's: ``sum of weight * slope * sum / count``."""
        factors = [
            weight * slope / max(count, 1) for weight, slope, count in zip(self.weights, slopes, counts, strict=True)
        ]
        return (sums * torch.tensor(factors, dtype=sums.dtype, device=sums.device)).sum()

    def total(self, sums: Sequence[float], counts: Sequence[int]) -> float:
        """The objective's value."""
        means = self.means(sums, counts)
        return sum(
            weight * self._flattened(mean, cutoff)
            for weight, mean, cutoff in zip(self.weights, means, self.cutoffs, strict=True)
            if mean is not None and weight
        )

    def _flattened(self, mean: float, cutoff: float | None) -> float:
        return losses.cut_off(mean, cutoff)


class Unlikelihood(ContinuousObjective):
    """C-AdvUL (equation 3); an answer of weight 0 is not run at all."""

    def __init__(self, settings: CAdvUL) -> None:
        self._settings = settings
        self.weights = (settings.toward_weight, settings.away_weight, settings.utility_weight, 0.0)
        self.complement = settings.away_loss == "log_1_minus_p"
        # The other form of the away loss cuts off token by token.
        self.cutoffs = (settings.toward_cutoff, None if self.complement else settings.away_cutoff, None, None)
        self.answers = tuple(term for term in (Term.TOWARD, Term.AWAY) if self.weights[term])

    def sums(self, scores: Tensor, sheet: PackedBatch, part: Part) -> Tensor:  # noqa: ARG002
        """Of cross-entropies towards, of the away loss, of cross-entropies of utility."""
        log_p = scores[0] if self.complement else scores
        if self.complement:
            away = losses.unlikelihood_values(log_p, scores[1], self._settings.away_cutoff)
        else:
            away = losses.away_values(log_p)
        parts = [(-log_p)[sheet.of(Term.TOWARD)], away[sheet.of(Term.AWAY)], (-log_p)[sheet.of(Term.UTILITY)]]
        return torch.stack([*(values.sum() for values in parts), torch.zeros_like(log_p).sum()])

    def _flattened(self, mean: float, cutoff: float | None) -> float:
        return losses.cut_off(mean, cutoff, self._settings.cutoff_form)


class Preference(ContinuousObjective):
    """C-AdvIPO (equation 4), or DPO or NPO in its place.

    Clamped tokens are clamped for the reference as well, so that the margin is 0 where the two models agree. Tokens
    that count as 0 do so in the trained model alone: the published code takes references of whole answers.

    Args:
        settings: of the defense.
        references: clean log-probabilities of the reference for (chosen, rejected) answers, by triple; as means over
            tokens for IPO and as sums for the others (:meth:`of_answer`).
    """

    def __init__(self, settings: CAdvIPO, references: Mapping[tuple[int, int], tuple[float, float]]) -> None:
        self._settings, self._references = settings, references
        self.weights = (0.0, 0.0, settings.utility_weight, settings.preference_weight)
        if settings.loss == "npo":
            self.answers = (Term.AWAY,)

    def of_answer(self, term: Term, log_p: Tensor, rows: Tensor, n_rows: int, *, reference: bool = False) -> Tensor:
        """Log-probability of each answer as the loss takes it, shape ``(n_rows,)``.

        Args:
            term: toward: chosen answers; away: rejected ones.
            log_p: of their tokens, ``(n,)``.
            rows: answer of each token.
            n_rows: answers.
            reference: whether they are those of the reference.
        """
        form = self._settings.cutoff_form
        if reference and form == "zero":
            cut = log_p
        elif term is Term.TOWARD:
            cut = losses.cut_chosen(log_p, self._settings.toward_cutoff, form)
        else:
            cut = losses.cut_rejected(log_p, self._settings.away_cutoff, form)
        sums = losses.sums_by_row(cut, rows, n_rows)
        if self._settings.loss != "ipo":
            return sums
        return sums / losses.sums_by_row(torch.ones_like(log_p), rows, n_rows).clamp(min=1)

    def sums(self, scores: Tensor, sheet: PackedBatch, part: Part) -> Tensor:
        """Of cross-entropies and log-probabilities as they are (for the record), and of the preference losses."""
        toward, away, utility = (sheet.of(term) for term in Term)
        preferences = self._row_losses(scores, sheet, part) if part.triples else scores[:0]
        values = (-scores[toward], scores[away], -scores[utility], preferences)
        return torch.stack([value.sum() for value in values])

    def _row_losses(self, scores: Tensor, sheet: PackedBatch, part: Part) -> Tensor:
        """Loss of each triple, shape ``(triples,)``."""
        owners, n = sheet.owners(), len(part.triples)
        known = torch.tensor([self._references[t.key] for t in part.triples], device=scores.device)
        ratios = {}
        for term in self.answers:
            mine = sheet.of(term)
            ratios[term] = self.of_answer(term, scores[mine], owners[mine], n) - known[:, int(term)]
        if self._settings.loss == "npo":
            return losses.npo(ratios[Term.AWAY], self._settings.beta)
        compare = losses.ipo if self._settings.loss == "ipo" else losses.dpo
        return compare(ratios[Term.TOWARD], ratios[Term.AWAY], self._settings.beta)
