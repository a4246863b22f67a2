"""What a training job keeps outside its outputs: checkpoints, when to write them, and being told to stop."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from hardscale.artifacts.atomic import naming_disk_errors, sync, write_whole
from hardscale.artifacts.manifest import canonical_json, read_manifest, sha256_file
from hardscale.artifacts.retry import retry_once
from hardscale.runtime import pulse, stopping
from hardscale.runtime.console import say
from hardscale.training import faults
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine
from hardscale.training.options import RunOptions

SEAL = "seal.json"
PROGRESS = "progress.json"
_KEPT = 2


class Session:
    """One job's life across kills: it saves by the clock and when told to stop, and resumes from the last save.

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
        return bool(stopping.received)

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
        """End this process after its state was saved; the same command resumes from there."""
        if self.group.leader:
            say(f"stopped {where}; the state is saved, run the same command again to resume")
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


def write_json(path: Path, value: Any, private: bool = False) -> None:
    """Write a JSON file that is either absent or whole, and on the disk; see :func:`write_whole`."""
    write_whole(path, json.dumps(value, allow_nan=False), synced=True, private=private)


def seal(folder: Path, group: Group, **facts: Any) -> None:
    """Make a folder that all ranks have written count: hash its files (shared among ranks), then write the seal."""
    group.barrier()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    mine = {}
    for path in files[group.rank :: group.world]:
        pulse.beat()
        sync(path)
        mine[path.relative_to(folder).as_posix()] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    hashes = {name: entry for part in group.gather(mine) for name, entry in part.items()}
    if group.leader:
        sync(folder)
        write_json(folder / SEAL, {**facts, "files": hashes})
    group.barrier()


def sealed(folder: Path) -> dict[str, Any] | None:
    """The facts of a sealed folder whose files are what they were; None otherwise."""
    try:
        # A file system that does not answer must not cost the checkpoint: it raises what is not caught here.
        facts = json.loads(retry_once(lambda: (folder / SEAL).read_text(encoding="utf-8"), folder / SEAL))
        for name, entry in facts["files"].items():
            pulse.beat()
            path = folder / name
            if path.stat().st_size != entry["bytes"] or sha256_file(path) != entry["sha256"]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts


class Checkpoints:
    """The checkpoints of one job in one folder.

    Args:
        folder: outside of every output; shared by the ranks.
        group: the ranks.
        job: name of the job, for fault injection.
        spec: digest of what is trained, on how many ranks; state of another spec is thrown away.
    """

    def __init__(self, folder: Path, group: Group, job: str, spec: str) -> None:
        self._folder, self._group, self._job, self._spec = folder, group, job, spec
        self._n_saved = 0

    def save(self, engine: Engine, step: int, progress: dict[str, Any]) -> None:
        """Save after ``step`` optimizer steps. Every rank calls it; ``progress`` is rank 0's.

        There may be many of one step: ``progress`` moves on while a round's examples are attacked.
        """
        tag = self._group.gather(self._new_tag(step) if self._group.leader else None)[0]
        with naming_disk_errors(self._folder):
            # Weights that are not trained are those that the job started from: not worth a copy in every checkpoint.
            engine.deepspeed.save_checkpoint(
                str(self._folder), tag=tag, save_latest=False, exclude_frozen_parameters=True
            )
        self._n_saved += 1
        if self._group.leader:
            write_json(self._folder / tag / PROGRESS, progress, private=True)  # may hold attack texts
            faults.trip(self._job, "save", self._n_saved, self._group.rank)
        seal(self._folder / tag, self._group, spec=self._spec, step=step)
        if self._group.leader:
            for old in self._tags()[:-_KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        self._group.barrier()

    def restore(self, engine: Engine) -> dict[str, Any] | None:
        """Load the latest valid checkpoint into the engine; remove what is not valid.

        Returns:
            Its progress, or None when training starts from the beginning.
        """
        chosen = self._group.gather(self._choose() if self._group.leader else None)[0]
        if chosen is None:
            return None
        whole = all(parameter.requires_grad for parameter in engine.module.parameters())
        engine.deepspeed.load_checkpoint(str(self._folder), tag=chosen, load_module_strict=whole)
        return json.loads((self._folder / chosen / PROGRESS).read_text(encoding="utf-8"))

    def _new_tag(self, step: int) -> str:
        """Later than every tag of this step; a number of a removed one would sort before those that are left."""
        taken = [int(path.name.rpartition("-")[2]) for path in self._folder.glob(f"step{step:09d}-*")]
        return f"step{step:09d}-{max(taken, default=-1) + 1:06d}"

    def _tags(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("step*") if path.is_dir())

    def _choose(self) -> str | None:
        for folder in reversed(self._tags()):
            facts = sealed(folder)
            if facts is not None and facts.get("spec") == self._spec:
                return folder.name
            shutil.rmtree(folder, ignore_errors=True)
        return None
