"""What a training job keeps outside its outputs: checkpoints, when to write them, and being told to stop."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from hardscale.artifacts.manifest import canonical_json, read_manifest
from hardscale.runtime import stopping
from hardscale.runtime.console import say
from hardscale.training.checkpoint import Checkpoints
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine
from hardscale.training.options import RunOptions


class Session:
    """One job's life across kills: it saves by the clock and when told to stop, and goes on from the last save.

    Args:
        job: name of the job.
        state: its private folder, shared by the ranks, outside every output.
        spec: what is trained.
        inputs: artifacts it is trained from.
        group: the ranks.
        options: how long between saves, and what else a state must match.
    """

    def __init__(
        self, job: str, state: Path, spec: dict[str, Any], inputs: dict[str, Path], group: Group, options: RunOptions
    ) -> None:
        self.job, self.state, self.group = job, state, group
        identity = {
            "spec": spec,
            "inputs": {name: read_manifest(path)["self"] for name, path in sorted(inputs.items())},
            "world": group.world,
            "zero_stage": options.zero_stage,
            "dtype": options.dtype,
            "code": options.code,
        }
        self.digest = hashlib.sha256(canonical_json(identity).encode()).hexdigest()
        self._checkpoints = Checkpoints(state / "checkpoints", group, job, self.digest)
        self._interval = options.save_seconds
        self._saved_at = time.monotonic()
        stopping.listen()

    @property
    def stop_asked(self) -> bool:
        """Whether this rank was told to stop; ranks may differ."""
        return bool(stopping.told)

    def votes(self) -> list[float]:
        """What this rank says of (stop, save) in an all-reduce.

        The clock of rank 0 alone decides when to save.
        """
        due = self.group.leader and time.monotonic() - self._saved_at >= self._interval
        return [float(self.stop_asked), float(due)]

    def restore(self, engine: Engine) -> dict[str, Any] | None:
        """Go on from the last checkpoint: its progress, or None at the beginning."""
        progress = self._checkpoints.restore(engine)
        self._saved_at = time.monotonic()
        return progress

    def save(self, engine: Engine, step: int, progress: dict[str, Any]) -> None:
        """Write a checkpoint; every rank calls it."""
        self._checkpoints.save(engine, step, progress)
        self._saved_at = time.monotonic()

    def agree(self) -> tuple[bool, bool]:
        """Whether any rank was told to stop, and whether to save; the same on every rank, and every rank calls it."""
        stop, save = self.group.sum(torch.tensor(self.votes(), dtype=torch.float64)).tolist()
        return stop > 0, save > 0

    def leave(self, where: str) -> None:
        """End this process after its state was saved; the same command goes on from there."""
        if self.group.leader:
            say(f"stopped {where}; the state is saved, run the same command again to go on")
        raise SystemExit(stopping.REQUEUE)

    def finish(self) -> None:
        """Remove the state: the results are published."""
        self.group.barrier()
        if self.group.leader:
            for name in ("checkpoints", "finished", "carry"):
                shutil.rmtree(self.state / name, ignore_errors=True)


def memory_mb(group: Group) -> float:
    """Peak memory of this rank: of its GPU, or of the process."""
    if group.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
