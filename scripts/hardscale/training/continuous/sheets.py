"""From rows to tensors: sequences padded on the right, with the places whose log-probabilities are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from hardscale.training.continuous.rows import Part, Triple


class Term(IntEnum):
    """What a sequence is trained for."""

    TOWARD = 0
    AWAY = 1
    UTILITY = 2


@dataclass(frozen=True)
class Line:
    """One sequence.

    Attributes:
        term: what it is trained for.
        ids: its tokens.
        first_label: first token that is scored.
        owner: its triple's place in the part, or -1.
    """

    term: Term
    ids: tuple[int, ...]
    first_label: int
    owner: int = -1

    @property
    def n_labels(self) -> int:
        """Tokens scored."""
        return len(self.ids) - self.first_label


@dataclass(frozen=True)
class Sheet:
    """Sequences as tensors.

    Attributes:
        lines: the sequences; without any, the tensors hold one token that nothing is asked of.
        input_ids: ``(rows, width)`` int64; without each sequence's last token, which nothing is predicted from.
        attention_mask: ``(rows, width)`` int64, 1 on tokens.
        rows: row of each scored token, ``(n,)``.
        columns: its place in its sequence, ``(n,)``.
        wanted: its id, ``(n,)``.
    """

    lines: Sequence[Line]
    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    columns: Tensor
    wanted: Tensor

    @property
    def asked(self) -> dict[str, Any]:
        """Arguments of :class:`~hardscale.training.continuous.scored_lm.ScoredLM` besides the tokens."""
        return {name: getattr(self, name) for name in ("attention_mask", "rows", "columns", "wanted")}

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """(tokens, scored tokens) of each sequence."""
        return [(len(line.ids), line.n_labels) for line in self.lines]

    def of(self, term: Term) -> Tensor:
        """Which scored tokens belong to a term, bool ``(n,)``."""
        return torch.tensor([line.term == term for line in self.lines] or [False], device=self.rows.device)[self.rows]

    def owners(self) -> Tensor:
        """The triple of each scored token, ``(n,)``; -1 for utility."""
        return torch.tensor([line.owner for line in self.lines] or [-1], device=self.rows.device)[self.rows]


def lines_of(part: Part, terms: Sequence[Term]) -> list[Line]:
    """The sequences of a part, of the terms that are trained for; a conversation without labels has none."""
    lines = []
    for owner, triple in enumerate(part.triples):
        for term, answer in ((Term.TOWARD, triple.toward), (Term.AWAY, triple.away)):
            if term in terms:
                lines.append(answered(triple, term, answer, owner))
    if Term.UTILITY in terms:
        lines += [Line(Term.UTILITY, t.ids, t.first_label) for t in part.talks if t.first_label < len(t.ids)]
    return lines


def answered(triple: Triple, term: Term, answer: tuple[int, ...], owner: int = -1) -> Line:
    """A prompt with one of its answers."""
    return Line(term, triple.prompt + answer, len(triple.prompt), owner)


def make_sheet(lines: Sequence[Line], pad_id: int, device: torch.device) -> Sheet:
    """Pad sequences to the longest."""
    ids = [list(line.ids[:-1]) for line in lines] or [[pad_id]]
    width = max(map(len, ids))
    lengths = torch.tensor([len(row) for row in ids])
    rows = [row for row, line in enumerate(lines) for _ in range(line.n_labels)]
    columns = [column for line in lines for column in range(line.first_label, len(line.ids))]
    wanted = [lines[row].ids[column] for row, column in zip(rows, columns, strict=True)]
    return Sheet(
        lines,
        torch.tensor([row + [pad_id] * (width - len(row)) for row in ids], device=device),
        (torch.arange(width) < lengths[:, None]).long().to(device),
        torch.tensor(rows, dtype=torch.long, device=device),
        torch.tensor(columns, dtype=torch.long, device=device),
        torch.tensor(wanted, dtype=torch.long, device=device),
    )


def lay(deltas: Sequence[Tensor], sheet: Sheet) -> Tensor | None:
    """Perturbations of prompts laid under every sequence of the triple that they belong to.

    Args:
        deltas: float32 of shape ``(prompt tokens, hidden)``, one a triple of the part; none without an attack.
        sheet: its sequences begin with those prompts.

    Returns:
        float32 of shape ``(rows, width, hidden)``, zero after the prompts; None where there is nothing to add.
    """
    if not deltas:
        return None
    whole = torch.zeros(*sheet.input_ids.shape, deltas[0].shape[-1], device=sheet.input_ids.device)
    for row, line in enumerate(sheet.lines):
        if line.owner >= 0:
            whole[row, : len(deltas[line.owner])] = deltas[line.owner]
    return whole
