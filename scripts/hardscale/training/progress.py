"""Where a block of adversarial rounds stands: what its checkpoints hold besides the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hardscale.models.flop_counter import PassCounts
from hardscale.training.examples import Attacked
from hardscale.training.loop import TrainHistory
from hardscale.training.pool import PoolEntry, RoundSet, pool_rows


@dataclass
class RoundsProgress:
    """Where a block stands.

    Attributes:
        round: the round being worked on.
        trained: whether its training is done (its checkpoint stands, its artifact may not).
        pool: the pool now.
        attacked: the round's examples so far while they are generated; None before and after.
        chosen: the round's set once its examples are generated; None before.
        history: the round's training so far.
        attack_asr: success share of the round's attack.
        starts: how many first texts of it came about how.
        generation_flops: of the round.
        work: of the round so far, generation and training, as :meth:`PassCounts.values`.
        earlier_work: of all earlier rounds.
        defense_flops: of all earlier rounds.
        n_seen_tokens: trained on in all earlier rounds.
    """

    round: int
    trained: bool = False
    pool: list[PoolEntry] = field(default_factory=list)
    attacked: Attacked | None = None
    chosen: RoundSet | None = None
    history: TrainHistory = field(default_factory=TrainHistory)
    attack_asr: float = 0.0
    starts: dict[str, int] = field(default_factory=dict)
    generation_flops: float = 0.0
    work: list[float] = field(default_factory=lambda: PassCounts().values())
    earlier_work: list[float] = field(default_factory=lambda: PassCounts().values())
    defense_flops: float = 0.0
    n_seen_tokens: int = 0

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        nested = {
            "pool": pool_rows(self.pool),
            "attacked": self.attacked and self.attacked.dump(),
            "chosen": self.chosen and vars(self.chosen),
            "history": vars(self.history),
        }
        return {**vars(self), **nested}

    @classmethod
    def load(cls, values: dict[str, Any]) -> RoundsProgress:
        """Of :meth:`dump`."""
        nested = {
            "pool": [PoolEntry(**entry) for entry in values["pool"]],
            "attacked": Attacked.load(values["attacked"]) if values["attacked"] else None,
            "chosen": RoundSet(**values["chosen"]) if values["chosen"] else None,
            "history": TrainHistory(**values["history"]),
        }
        return cls(**{**values, **nested})
