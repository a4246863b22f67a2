"""Log-probabilities of answers under the model before training, on clean prompts, kept by row.

They are computed once, with the weights that training starts from and before any adapter is put in: no second model is
held, and the reference is never attacked (section on C-AdvIPO).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hardscale.runtime import pulse
from hardscale.training.continuous.objective import Preference
from hardscale.training.continuous.packing import Term, TokenSequence, answered, pack_batch
from hardscale.training.continuous.rows import Triple
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.distributed import Group
from hardscale.training.session import write_json

#: In the state folder.
REFERENCES = "references.json"
#: Tokens of one forward pass, padding included.
_TOKENS_PER_BATCH = 4_096

References = dict[tuple[int, int], tuple[float, float]]


def reference_sequences(triples: Sequence[Triple]) -> list[TokenSequence]:
    """The sequences that references of these triples need, each once: targets of a behavior share its safe answer."""
    wanted = dict.fromkeys(line for t in triples for line in _lines(t))
    return sorted(wanted, key=lambda line: (len(line.ids), line.ids, line.term))


def references(module: ScoredLM, triples: Sequence[Triple], how: Preference, group: Group, pad_id: int) -> References:
    """Reference values of (chosen, rejected) answers, by the key of their triple. Every rank calls it.

    Args:
        module: the model before training, in evaluation mode, on the device.
        triples: those that training will see.
        how: turns token log-probabilities into the values that its loss compares.
        group: the ranks, which share the work.
        pad_id: padding token.
    """
    lines = reference_sequences(triples)
    mine: dict[int, float] = {}
    for batch in _batches(lines, group):
        pulse.beat()
        values = _values(module, [lines[i] for i in batch], how, pad_id)
        mine.update(zip(batch, values.tolist(), strict=True))
    known = {lines[i]: value for part in group.gather(mine) for i, value in part.items()}
    found = {}
    for triple in triples:
        chosen, rejected = (known[line] for line in _lines(triple))
        found[triple.key] = (chosen, rejected)
    return found


def _lines(triple: Triple) -> tuple[TokenSequence, TokenSequence]:
    return answered(triple, Term.TOWARD, triple.toward), answered(triple, Term.AWAY, triple.away)


def _values(module: ScoredLM, lines: Sequence[TokenSequence], how: Preference, pad_id: int) -> Tensor:
    """Value of each sequence, shape ``(sequences,)``."""
    sheet = pack_batch(lines, pad_id, next(module.parameters()).device)
    with torch.no_grad():
        log_p = module(**sheet.asked, input_ids=sheet.input_ids)
    by_term = {
        term: how.of_answer(term, log_p, sheet.sequences, len(lines), reference=True)
        for term in (Term.TOWARD, Term.AWAY)
    }
    return torch.stack([by_term[line.term][i] for i, line in enumerate(lines)])


def _batches(lines: Sequence[TokenSequence], group: Group) -> list[list[int]]:
    """Indices of this rank's batches; neighbors have similar lengths."""
    batches: list[list[int]] = []
    for index in range(group.rank, len(lines), group.world):
        if batches and (len(batches[-1]) + 1) * len(lines[index].ids) <= _TOKENS_PER_BATCH:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def save_references(state: Path, found: References, digest: str) -> None:
    """Keep references in the state of a job, whole or not at all."""
    state.mkdir(parents=True, exist_ok=True)
    rows = [[list(key), list(values)] for key, values in sorted(found.items())]
    write_json(state / REFERENCES, {"digest": digest, "rows": rows})


def saved_references(state: Path, digest: str) -> References | None:
    """References of an earlier start of the same job; None where there are none."""
    try:
        kept = json.loads((state / REFERENCES).read_text(encoding="utf-8"))
        if kept["digest"] != digest:
            return None
        return {(row, number): (chosen, rejected) for (row, number), (chosen, rejected) in kept["rows"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
