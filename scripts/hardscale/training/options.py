"""How a training job runs, as opposed to what it trains: nothing here is part of a spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hardscale.errors import TrainingError

Precision = Literal["float32", "bfloat16"]

#: Folder of ``zero{0,1,2,3}.json``.
ZERO_FOLDER = Path(__file__).resolve().parents[3] / "envs"


#: Longest that ranks wait inside one collective, and for a rank that gives no sign of life.
PATIENCE_SECONDS = 1_800.0


@dataclass(frozen=True)
class RunOptions:
    """Machine-side choices of a training job.

    Attributes:
        zero_stage: DeepSpeed ZeRO stage, 0 to 3.
        dtype: ``float32``, or ``bfloat16`` weights with float32 master weights (stage 1 and above).
        micro_batch: rows of one forward pass on one rank; None: at most 32.
        save_seconds: seconds of training between two checkpoints.
        threads: CPU threads of a rank.
        patience_seconds: until a rank that does not get on ends the distributed job.
        code: digest of the code that trains; a state that other code left is not resumed from.
    """

    zero_stage: int = 0
    dtype: Precision = "float32"
    micro_batch: int | None = None
    save_seconds: float = 60.0
    threads: int = 1
    patience_seconds: float = PATIENCE_SECONDS
    code: str = ""

    def __post_init__(self) -> None:
        if self.zero_stage not in (0, 1, 2, 3):
            raise TrainingError(f"--zero-stage: found {self.zero_stage}, allowed are 0, 1, 2, 3")
        if self.dtype not in ("float32", "bfloat16"):
            raise TrainingError(f"--dtype: found {self.dtype!r}, allowed are float32, bfloat16")
        if self.dtype == "bfloat16" and self.zero_stage == 0:
            raise TrainingError("--dtype bfloat16 needs float32 master weights: give --zero-stage 1, 2 or 3")
        if self.patience_seconds <= 0:
            raise TrainingError(f"--patience-seconds: found {self.patience_seconds:g}, must be above 0")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise TrainingError(f"--micro-batch: found {self.micro_batch}, must be at least 1")
