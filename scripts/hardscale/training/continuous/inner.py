"""The attack inside a training step: vectors added to prompt embeddings that make the harmful answers likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.perturb import perturb
from hardscale.settings.embedding import InnerAttack
from hardscale.training.continuous.losses import sums_by_row
from hardscale.training.continuous.rows import Triple
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.continuous.sheets import Term, answered, make_sheet


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
    sheet = make_sheet([answered(t, Term.AWAY, t.away) for t in triples], pad_id, device)
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
