"""From rows to tensors: sequences padded on the right, with the places whose log-probabilities are wanted.

Two answers to one prompt can lie in one row behind it, so that the prompt is run once: the second answer then reads the
prompt and itself, not the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from hardscale.models.flop_counter import Length
from hardscale.training.continuous.rows import Part, Triple
from hardscale.training.continuous.scored_lm import BEGINNING


class Term(IntEnum):
    """What a sequence is trained for."""

    TOWARD = 0
    AWAY = 1
    UTILITY = 2


@dataclass(frozen=True)
class TokenSequence:
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
class PackedBatch:
    """Sequences as tensors.

    Attributes:
        lines: the sequences; without any, the tensors hold one token that nothing is asked of.
        row_of: the row that each sequence lies in.
        input_ids: ``(rows, width)`` int64; without each sequence's last token, which nothing is predicted from.
        attention_mask: ``(rows, width)`` int64, 1 on tokens.
        branches: as :class:`~hardscale.training.continuous.scored_lm.ScoredLM` takes them; None where every sequence
            has a row to itself.
        sequences: sequence of each scored token, ``(n,)``.
        rows: its row, ``(n,)``.
        columns: the place in its row that it is predicted from, ``(n,)``.
        wanted: its id, ``(n,)``.
    """

    lines: Sequence[TokenSequence]
    row_of: Sequence[int]
    input_ids: Tensor
    attention_mask: Tensor
    branches: Tensor | None
    sequences: Tensor
    rows: Tensor
    columns: Tensor
    wanted: Tensor

    @property
    def asked(self) -> dict[str, Any]:
        """Arguments of :class:`~hardscale.training.continuous.scored_lm.ScoredLM` besides the tokens."""
        return {name: getattr(self, name) for name in ("attention_mask", "branches", "rows", "columns", "wanted")}

    @property
    def lengths(self) -> list[Length]:
        """Of each sequence; a prompt counts as run for the first one in its row alone."""
        found, before = [], -1
        for line, row in zip(self.lines, self.row_of, strict=True):
            found.append(Length(len(line.ids), line.n_labels, line.first_label if row == before else 0))
            before = row
        return found

    def of(self, term: Term) -> Tensor:
        """Which scored tokens belong to a term, bool ``(n,)``."""
        terms = [line.term == term for line in self.lines] or [False]
        return torch.tensor(terms, device=self.rows.device)[self.sequences]

    def owners(self) -> Tensor:
        """The triple of each scored token, ``(n,)``; -1 for utility."""
        owners = [line.owner for line in self.lines] or [-1]
        return torch.tensor(owners, device=self.rows.device)[self.sequences]


def sequences_of(part: Part, terms: Sequence[Term]) -> list[TokenSequence]:
    """The sequences of a part, of the terms that are trained for; a conversation without labels has none."""
    lines = []
    for owner, triple in enumerate(part.triples):
        for term, answer in ((Term.TOWARD, triple.toward), (Term.AWAY, triple.away)):
            if term in terms:
                lines.append(answered(triple, term, answer, owner))
    if Term.UTILITY in terms:
        lines += [TokenSequence(Term.UTILITY, t.ids, t.first_label) for t in part.talks if t.first_label < len(t.ids)]
    return lines


def answered(triple: Triple, term: Term, answer: tuple[int, ...], owner: int = -1) -> TokenSequence:
    """A prompt with one of its answers."""
    return TokenSequence(term, triple.prompt + answer, len(triple.prompt), owner)


def pack_batch(
    lines: Sequence[TokenSequence], pad_id: int, device: torch.device, *, share: bool = False
) -> PackedBatch:
    """Pad sequences to the longest.

    Args:
        lines: the sequences.
        pad_id: padding token.
        device: of the tensors.
        share: put neighbors that answer one prompt of one triple into one row.
    """
    laid = _lay_out(lines, share)
    width = max((len(row.ids) for row in laid), default=1)
    scored = [place for row in laid for place in row.scored]
    sequences, rows, columns, wanted = zip(*scored, strict=True) if scored else ((), (), (), ())
    shared = any(len(row.lines) > 1 for row in laid)

    def whole(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=device)

    def padded(parts: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[*part, *[filler] * (width - len(part))] for part in parts] or [[filler]], device=device)

    return PackedBatch(
        lines,
        [number for number, row in enumerate(laid) for _ in row.lines],
        padded([row.ids for row in laid], pad_id),
        padded([[1] * len(row.ids) for row in laid], 0) if laid else torch.ones(1, 1, dtype=torch.long, device=device),
        padded([row.branches for row in laid], 0) if shared else None,
        whole(sequences),
        whole(rows),
        whole(columns),
        whole(wanted),
    )


@dataclass(frozen=True)
class _PackedRow:
    """A row while it is laid out: its sequences, its tokens, their branches, and (sequence, row, column, id) scored."""

    lines: list[TokenSequence]
    ids: list[int]
    branches: list[int]
    scored: list[tuple[int, int, int, int]]


def _lay_out(lines: Sequence[TokenSequence], share: bool) -> list[_PackedRow]:
    laid: list[_PackedRow] = []
    for sequence, line in enumerate(lines):
        first, prompt = line.first_label, list(line.ids[: line.first_label])
        if not (share and laid and _one_prompt(laid[-1].lines[0], line)):
            laid.append(_PackedRow([], prompt, [BEGINNING] * first, []))
        row, answer = laid[-1], list(line.ids[first:-1])
        begins = len(row.ids)
        row.lines.append(line)
        # The first token of an answer is predicted from the prompt's last, the others from the one before.
        columns = [first - 1, *range(begins, begins + len(answer))][: line.n_labels]
        row.scored.extend(
            (sequence, len(laid) - 1, column, wanted) for column, wanted in zip(columns, line.ids[first:], strict=True)
        )
        row.ids.extend(answer)
        row.branches.extend([BEGINNING + len(row.lines)] * len(answer))
    return laid


def _one_prompt(first: TokenSequence, second: TokenSequence) -> bool:
    """Whether two sequences are answers to one prompt of one triple."""
    same_owner = first.owner == second.owner >= 0
    return same_owner and first.ids[: first.first_label] == second.ids[: second.first_label]


def scatter(deltas: Sequence[Tensor], sheet: PackedBatch) -> Tensor | None:
    """Perturbations of prompts laid under every sequence of the triple that they belong to.

    Args:
        deltas: float32 of shape ``(prompt tokens, hidden)``, one a triple of the part; none without an attack.
        sheet: its sequences begin with those prompts.

    Returns:
        float32 of shape ``(rows, width, hidden)``, zero besides the prompts; None where there is nothing to add.
    """
    if not deltas:
        return None
    whole = torch.zeros(*sheet.input_ids.shape, deltas[0].shape[-1], device=sheet.input_ids.device)
    for line, row in zip(sheet.lines, sheet.row_of, strict=True):
        if line.owner >= 0:
            whole[row, : len(deltas[line.owner])] = deltas[line.owner]
    return whole
