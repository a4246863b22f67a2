"""A barrier for ranks of which one may have far more to do: it waits for one as long as that shows signs of life."""

from __future__ import annotations

import time
from datetime import timedelta

import torch.distributed as dist

from hardscale.errors import TrainingError

#: A waiting rank looks so often within its patience whether the missing ones have shown signs of life.
_LOOKS = 4


class Meeting:
    """Meetings of all ranks, one after another, over the store through which the ranks first connected.

    Args:
        rank: this one.
        world: how many there are.
        patience: seconds that a missing rank may go without a sign of life (:mod:`hardscale.runtime.pulse`).
    """

    def __init__(self, rank: int, world: int, patience: float) -> None:
        self._store = dist.distributed_c10d._get_default_store()
        self._rank, self._world, self._patience = rank, world, patience
        self._number = 0

    def beat(self) -> None:
        """Let the others know that this rank lives."""
        self._store.add(f"pulse/{self._rank}", 1)

    def wait(self) -> None:
        """Wait until every rank has come, however long that takes, while the missing ones show signs of life.

        Raises:
            TrainingError: one did not for the whole patience; names it.
        """
        self._number += 1
        keys = [f"meeting/{self._number}/{rank}" for rank in range(self._world)]
        self._store.set(keys[self._rank], "here")
        seen: dict[int, tuple[int, float]] = {}
        look = self._patience / _LOOKS
        while True:
            began = time.monotonic()
            try:
                self._store.wait(keys, timedelta(seconds=look))
                return
            except RuntimeError:
                # Kinds of store differ in what they raise when time is up; at once, it means that the store is gone.
                if time.monotonic() - began < look / 2:
                    raise
            self._look_for_the_missing(keys, seen)

    def _look_for_the_missing(self, keys: list[str], seen: dict[int, tuple[int, float]]) -> None:
        now = time.monotonic()
        for rank, key in enumerate(keys):
            if self._store.check([key]):
                continue
            beats = self._store.add(f"pulse/{rank}", 0)
            before, since = seen.setdefault(rank, (beats, now))
            if beats != before:
                seen[rank] = (beats, now)
            elif now - since >= self._patience:
                raise TrainingError(
                    f"rank {rank} of {self._world} gave no sign of life for {self._patience:.0f} s while others waited "
                    "for it; see where it stands in its log, then run again"
                )
