"""Attacks that try one whole text after the other and keep the best."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from hardscale.attacks.call import Call
from hardscale.attacks.reading import read
from hardscale.attacks.results import AttackResult, Record
from hardscale.attacks.victim import Victim
from hardscale.models.flop_counter import FlopCounter


def try_texts(
    victim: Victim, call: Call, around: Sequence[tuple[str, str]], texts: Sequence[Sequence[str]]
) -> list[AttackResult]:
    """Score the texts of every example in turn, one an iteration.

    Args:
        victim: the model under attack, which may be told other targets than that of the call.
        call: of the attack.
        around: what stands before and after the text, for each example.
        texts: those of each example, equally many.

    Returns:
        the results; the text held after an iteration is the one with the lowest loss so far. ``notes`` has the loss and
        the success of every text by its number, from 1.
    """
    records = [
        Record(before, after, FlopCounter(call.shape, products))
        for (before, after), products in zip(around, victim.head_products, strict=True)
    ]
    notes: list[dict[str, float]] = [{} for _ in records]
    best: list[tuple[float, str, list[int], float, bool] | None] = [None] * len(records)
    for number, column in enumerate(zip(*texts, strict=True), start=1):
        began = time.monotonic()
        prompts = [
            (i, before + text + after) for i, ((before, after), text) in enumerate(zip(around, column, strict=True))
        ]
        for i, reading in enumerate(read(victim, call.codec, prompts)):
            held = best[i]
            if held is None or reading.rank < held[0]:
                tokens = call.codec.inserted(around[i][0], column[i], around[i][1])
                held = best[i] = (reading.rank, column[i], tokens, reading.loss, reading.success)
            reading.pay(records[i].counter)
            records[i].close_iteration(*held[1:], 1)
            notes[i] |= {f"loss_{number}": reading.loss, f"success_{number}": float(reading.success)}
        call.note(number, len(records), time.monotonic() - began)
    return [replace(record.result(), notes=note) for record, note in zip(records, notes, strict=True)]
