"""Rows of different prompts packed into micro-batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

#: From this many stored tokens on, copying prefixes beside each other costs more than smaller forwards do.
LONG_PREFIX = 128


@dataclass(frozen=True)
class RowBlock:
    """Prompts of one example that have the same length.

    Attributes:
        example: index of the example among those under attack.
        tokens: whole prompts, shape ``(n, length)``, on the CPU.
        reused: leading tokens that equal the example's stored prefix and need no new computation.
        n_ending: last tokens that are the target text.
    """

    example: int
    tokens: torch.Tensor
    reused: int = 0
    n_ending: int = 0

    @property
    def n_new(self) -> int:
        """Tokens of each prompt that have to be computed."""
        return self.tokens.shape[1] - self.reused


@dataclass(frozen=True)
class Slice:
    """Rows ``start:stop`` of block number ``block``."""

    block: int
    start: int
    stop: int

    @property
    def n_rows(self) -> int:
        """Rows taken from the block."""
        return self.stop - self.start


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one forward.

    Attributes:
        slices: the rows.
        whole: the rows of the micro-batch that it is a part of, whose width it keeps.
    """

    slices: list[Slice]
    whole: list[Slice]

    @property
    def n_rows(self) -> int:
        """Rows forwarded."""
        return sum(piece.n_rows for piece in self.slices)


def halves(batch: MicroBatch) -> list[MicroBatch]:
    """A batch cut in two by rows, in order; one of a single row stays whole."""
    left = batch.n_rows // 2
    first: list[Slice] = []
    second: list[Slice] = []
    for piece in batch.slices:
        cut = piece.start + min(left, piece.n_rows)
        left -= cut - piece.start
        first += [replace(piece, stop=cut)] if cut > piece.start else []
        second += [replace(piece, start=cut)] if cut < piece.stop else []
    return [MicroBatch(slices, batch.whole) for slices in (first, second) if slices]


def micro_batches(blocks: Sequence[RowBlock], budget: int) -> Iterator[list[Slice]]:
    """Cut blocks into micro-batches of at most ``budget`` computed tokens, padding included.

    Blocks are taken in order of their computed length, so that padding stays small; the order depends on the blocks
    alone. A row that is longer than the budget gets a micro-batch of its own. Rows read their prefix from memory,
    which costs less than computing it: a stored token counts an eighth. Examples with long prefixes are kept apart, as
    rows of one example share a single copy.
    """
    order = sorted(range(len(blocks)), key=lambda i: (blocks[i].n_new, blocks[i].reused))
    batch: list[Slice] = []
    n_rows, longest, stored = 0, 0, 0
    for index in order:
        block = blocks[index]
        start, total = 0, block.tokens.shape[0]
        while start < total:
            wide, deep = max(longest, block.n_new), max(stored, block.reused)
            room = max(budget // (wide + deep // 8), 1) - n_rows
            mixed = bool(batch) and batch[-1].block != index and deep > LONG_PREFIX
            if room <= 0 or mixed:
                yield batch
                batch, n_rows, longest, stored = [], 0, 0, 0
                continue
            take = min(room, total - start)
            batch.append(Slice(index, start, start + take))
            n_rows, longest, stored = n_rows + take, wide, deep
            start += take
    if batch:
        yield batch
