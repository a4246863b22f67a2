"""One optimizer step of continuous training on one rank: attack the prompts, then train on what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.perturb import perturb
from hardscale.models.flop_counter import FlopCounter, Length, PassCounts
from hardscale.settings.defenses import CAdvIPO, CAdvUL
from hardscale.settings.perturbation import InnerAttack
from hardscale.training.continuous.losses import sums_by_row
from hardscale.training.continuous.objective import NAMES, ContinuousObjective
from hardscale.training.continuous.packing import PackedBatch, Term, answered, pack_batch, scatter, sequences_of
from hardscale.training.continuous.rows import Conversation, Part, Triple, arrange
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.engine import Engine

_N = len(NAMES)


#: What a rank without adversarial rows attacks under ZeRO-3 while others attack theirs.
_FILLER = Triple((-1, 0), (0,), (0, 1), (0,), (0,))


@dataclass
class StepSums:
    """What a step adds up over ranks.

    Attributes:
        sums: of the terms, in the order of :data:`~hardscale.training.continuous.objective.NAMES`.
        total: the loss where means are over micro-batches.
        first: summed cross-entropy of harmful answers before the attack.
        last: ... under the perturbation that is trained on.
        attacked: triples attacked.
        tokens: tokens that could be perturbed.
        projected: of them, how many a step put back, as a mean over steps.
        ratios: summed ratios of their perturbations to the radius.
        work: compute done.
        largest: largest ratio.
        bad: keys of rows whose losses are not finite.
    """

    sums: list[float] = field(default_factory=lambda: [0.0] * _N)
    total: float = 0.0
    first: float = 0.0
    last: float = 0.0
    attacked: float = 0.0
    tokens: float = 0.0
    projected: float = 0.0
    ratios: float = 0.0
    work: PassCounts = field(default_factory=PassCounts)
    largest: float = 0.0
    bad: list[str] = field(default_factory=list)

    def values(self) -> list[float]:
        """All that adds up, in order."""
        scalars = [self.total, self.first, self.last, self.attacked, self.tokens, self.projected, self.ratios]
        return [*self.sums, *scalars, *self.work.values()]

    @classmethod
    def of(cls, values: Sequence[float], largest: float) -> StepSums:
        """Of :meth:`values`."""
        total, first, last, attacked, tokens, projected, ratios, *work = values[_N:]
        sums = list(values[:_N])
        return cls(sums, total, first, last, attacked, tokens, projected, ratios, PassCounts(*work), largest)


class ContinuousStep:
    """Takes the steps of one training.

    Args:
        settings: of the defense.
        objective: what is minimized.
        engine: around a :class:`~hardscale.training.continuous.scored_lm.ScoredLM`.
        counter: prices what is done.
        mean_norm: mean norm of the vocabulary's embeddings before training.
        pad_id: padding token.
        seed: of dropout and of where attacks start.
        unit: what absolute sizes of the attack are in; see :func:`hardscale.attacks.perturb.embedding_factor`.
    """

    def __init__(
        self,
        settings: CAdvUL | CAdvIPO,
        objective: ContinuousObjective,
        engine: Engine,
        counter: FlopCounter,
        mean_norm: float,
        pad_id: int,
        seed: int,
        unit: float = 1.0,
    ) -> None:
        self._settings, self._objective, self._engine = settings, objective, engine
        self._counter, self._mean_norm, self._pad_id, self._seed = counter, mean_norm, pad_id, seed
        self._unit = unit
        self._group, self._by_part = engine.group, settings.normalize == "microbatch_mean"
        self._share = settings.share_prompts and engine.module.takes_branches(settings.max_tokens)  # type: ignore[operator]
        self._lockstep = engine.options.zero_stage == 3  # its forwards are collectives: as many on every rank

    def accumulate(self, rows: Sequence[Triple | Conversation], number: int, tally: StepSums) -> None:
        """Gradients of a step on ``rows``, the same list on every rank; nothing is updated yet.

        Args:
            rows: of the step, in drawn order.
            number: of the step, from 0.
            tally: gets what this rank does.
        """
        everyone = arrange(rows, self._group.world, self._engine.micro, self._by_part)
        parts = everyone[self._group.rank]
        busy = [any(rank[i].triples for rank in everyone) for i in range(len(parts))]
        found = self._attack(parts, busy, number, tally)
        sheets = [self._sheet(part) for part in parts]
        counts = self._objective.counts(rows)
        slopes = self._slopes_beforehand(parts, busy, found, counts, tally)
        n_parts = sum(bool(part.triples or part.talks) for rank in everyone for part in rank)

        def loss_of(forward: Callable[..., Any], index: int) -> Tensor:
            part, sheet = parts[index], sheets[index]
            deltas = _deltas(found[index])
            scores = self._scores(forward, sheet, deltas)
            sums = self._objective.sums(scores, sheet, part)
            self._note(scores, sums, sheet, part, bool(deltas), tally)
            if not self._by_part:
                return self._objective.loss(sums, counts, slopes or self._slopes_now(sums, counts, busy[index]))
            own = self._objective.counts([*part.triples, *part.talks])
            tally.total += self._objective.total(sums.tolist(), own) / n_parts
            return self._objective.loss(sums, own, self._objective.slopes(sums.tolist(), own)) / n_parts

        self._engine.accumulate_parts(range(len(parts)), loss_of, derive_seed(self._seed, "dropout", number))

    @property
    def _device(self) -> torch.device:
        return self._group.device

    def _sheet(self, part: Part) -> PackedBatch:
        """The sequences of a part that are trained on."""
        return pack_batch(sequences_of(part, self._objective.terms), self._pad_id, self._device, share=self._share)

    def _scores(self, forward: Callable[..., Any], sheet: PackedBatch, deltas: Sequence[Tensor]) -> Tensor:
        more = {"complement": True} if self._objective.complement else {}
        return forward(**sheet.asked, input_ids=sheet.input_ids, delta=scatter(deltas, sheet), **more)

    # --- the attack -------------------------------------------------------------------------------------------------

    def _attack(self, parts: Sequence[Part], busy: Sequence[bool], number: int, tally: StepSums) -> list[Found | None]:
        """Attack the triples of every part. The same rows give the same vectors in whatever parts they stand."""
        settings = self._settings.attack
        found: list[Found | None] = [None] * len(parts)
        if settings is None or not any(busy):
            return found
        seed = derive_seed(self._seed, "attack", number)
        with self._engine.frozen_in_place(evaluation=not self._settings.dropout_in_attack) as module:
            if self._settings.dropout_in_attack:
                torch.manual_seed(derive_seed(seed, "dropout", self._group.rank))
                module.train()
            for i, part in enumerate(parts):
                if part.triples:
                    found[i] = self._attack_triples(module, part.triples, settings, seed)
                    self._note_attack(part, found[i], tally)
                elif self._lockstep and busy[i]:
                    self._attack_triples(module, [_FILLER], settings, seed)
        return found

    def _attack_triples(self, module: Any, triples: Sequence[Triple], settings: InnerAttack, seed: int) -> Found:
        return attack(module, triples, settings, self._mean_norm, seed, self._pad_id, self._unit)

    def _note_attack(self, part: Part, found: Found | None, tally: StepSums) -> None:
        settings = self._settings.attack
        assert found is not None and settings is not None
        lengths = [Length(len(t.prompt) + len(t.away), len(t.away)) for t in part.triples]
        tally.work += self._counter.attack(lengths, settings.steps + (settings.keep == "best"), settings.steps)
        tally.first += float(found.first.double().sum())
        if Term.AWAY not in self._objective.answers:
            tally.last += float(found.last.double().sum())  # not trained on, so not measured again
        tally.attacked += len(part.triples)
        tally.tokens += found.n_tokens
        tally.projected += found.projected_share * found.n_tokens
        tally.ratios += found.mean_ratio * found.n_tokens
        tally.largest = max(tally.largest, found.max_ratio)

    # --- slopes of the cut-offs -------------------------------------------------------------------------------------

    def _slopes_beforehand(
        self,
        parts: Sequence[Part],
        busy: Sequence[bool],
        found: Sequence[Found | None],
        counts: Sequence[int],
        tally: StepSums,
    ) -> list[float] | None:
        """Slopes at the step's means, by a forward pass of the adversarial sequences before any is trained on.

        None where that can wait: without cut-offs, with means over micro-batches, and where one micro-batch a rank
        holds all adversarial rows, whose sums are then known before its backward pass.
        """
        if self._by_part or sum(busy) < 2 or all(cutoff is None for cutoff in self._objective.cutoffs):
            return None
        sums = torch.zeros(_N, dtype=torch.float64)
        with self._engine.frozen_in_place() as module, torch.no_grad():
            for part, wanted, attacked in zip(parts, busy, found, strict=True):
                if wanted and (part.triples or self._lockstep):
                    alone = Part(part.triples)
                    sheet = self._sheet(alone)
                    scores = self._scores(module, sheet, _deltas(attacked))
                    sums += self._objective.sums(scores, sheet, alone).double().cpu()
                    tally.work += self._counter.attack(sheet.lengths, 1, 0)
        return self._objective.slopes(self._group.sum(sums).tolist(), counts)

    def _slopes_now(self, sums: Tensor, counts: Sequence[int], busy: bool) -> list[float]:
        """Slopes at the step's means where this micro-batch and its likes on the other ranks hold all that matters."""
        if not busy or all(cutoff is None for cutoff in self._objective.cutoffs):
            return [1.0] * _N
        return self._objective.slopes(self._group.sum(sums.detach().double().cpu()).tolist(), counts)

    # --- the record -------------------------------------------------------------------------------------------------

    def _note(
        self, scores: Tensor, sums: Tensor, sheet: PackedBatch, part: Part, attacked: bool, tally: StepSums
    ) -> None:
        tally.sums = [a + b for a, b in zip(tally.sums, sums.detach().double().tolist(), strict=True)]
        tally.work += self._counter.training(sheet.lengths)
        log_p = (scores[0] if self._objective.complement else scores).detach()
        if attacked and Term.AWAY in self._objective.answers:
            away = sheet.of(Term.AWAY)
            owners, n = sheet.owners()[away], len(part.triples)
            mean = sums_by_row(-log_p[away], owners, n) / sums_by_row(torch.ones_like(log_p[away]), owners, n)
            tally.last += float(mean.double().sum())
        if not all(map(math.isfinite, tally.sums)):
            bad = sheet.sequences[~torch.isfinite(log_p)].unique().tolist()
            tally.bad += [_name(sheet, part, sequence) for sequence in bad]


def _deltas(found: Found | None) -> list[Tensor]:
    return found.deltas if found else []


def _name(sheet: PackedBatch, part: Part, sequence: int) -> str:
    owner = sheet.lines[sequence].owner
    return f"behavior {part.triples[owner].key[0]}" if owner >= 0 else "utility"


@dataclass(frozen=True)
class Found:
    """What the attack found for some triples.

    Attributes:
        deltas: float32 of shape ``(prompt tokens, hidden)``, one a triple.
        first: mean cross-entropy of each harmful answer before the attack, shape ``(triples,)``.
        last: as the last gradient saw it, or at the last iterate where ``keep: best`` had to know it.
        n_tokens: tokens that could be perturbed.
        projected_share: of the tokens and steps, the share that left the ball and was put back.
        max_ratio: largest norm of a token's perturbation by eps (by the mean embedding norm without an eps).
        mean_ratio: mean of them.
    """

    deltas: list[Tensor]
    first: Tensor
    last: Tensor
    n_tokens: int
    projected_share: float
    max_ratio: float
    mean_ratio: float


def attack(
    module: ScoredLM,
    triples: Sequence[Triple],
    settings: InnerAttack,
    mean_norm: float,
    seed: int,
    pad_id: int,
    unit: float = 1.0,
) -> Found:
    """Attack the prompts of triples for their harmful answers (equation 1), all at once and each on its own.

    Args:
        module: frozen; never a training engine.
        triples: at least one.
        settings: steps, their size and the ball.
        mean_norm: mean norm of the vocabulary's embeddings.
        seed: of the starting point, where it is drawn.
        pad_id: padding token.
        unit: what absolute sizes are in; see :func:`hardscale.attacks.perturb.embedding_factor`.
    """
    device = next(module.parameters()).device
    sheet = pack_batch([answered(t, Term.AWAY, t.away) for t in triples], pad_id, device)
    n_labels = torch.tensor([line.n_labels for line in sheet.lines], device=device)
    with torch.no_grad():
        embeds = module.embed(sheet.input_ids)
    columns = torch.arange(embeds.shape[1], device=device)
    spans = torch.tensor([triple.span for triple in triples], device=device)
    mask = (columns >= spans[:, :1]) & (columns < spans[:, 1:])

    def losses_of(inputs: Tensor) -> Tensor:
        log_p = module(**sheet.asked, input_ids=sheet.input_ids, inputs_embeds=inputs)
        return sums_by_row(-log_p, sheet.sequences, len(triples)) / n_labels

    found = perturb(
        losses_of,
        embeds,
        mask,
        settings,
        settings.steps,
        mean_norm,
        [derive_seed(seed, *triple.key) for triple in triples],
        names=[f"{row} (target {number})" for row, number in (triple.key for triple in triples)],
        unit=unit,
        score_last=False,  # the training step runs the same sequences under the same perturbation anyway
    )
    return Found(
        [delta[: len(triple.prompt)] for delta, triple in zip(found.delta, triples, strict=True)],
        found.losses[0],
        found.losses[-1],
        int(found.n_tokens.sum()),
        found.projected_share,
        found.max_ratio,
        found.mean_ratio,
    )
