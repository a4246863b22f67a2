"""Checkpoints of a training job: complete or ignored, the last two kept.

DeepSpeed writes shards straight into their final folder and names the newest in a plain file, so a killed save looks
finished. Here every checkpoint has its own tag folder that is never written again, and counts only once its manifest
(sizes and SHA-256 of all shards) has been written, synced and renamed into place after all ranks are done.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import sha256_file
from hardscale.artifacts.publish import naming_disk_errors
from hardscale.artifacts.retry import once_more
from hardscale.artifacts.tables import private_file
from hardscale.runtime import pulse
from hardscale.training import faults
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine

SEAL = "seal.json"
PROGRESS = "progress.json"
_KEPT = 2


def write_json(path: Path, value: Any, private: bool = False) -> None:
    """Write a JSON file that is either absent or whole; a private one is its owner's alone, its draft too."""
    draft = path.with_name(f".{path.name}.tmp")
    with private_file(draft) if private else draft.open("wb") as file:
        file.write(json.dumps(value, allow_nan=False).encode())
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        facts = json.loads(once_more(lambda: (folder / SEAL).read_text(encoding="utf-8"), folder / SEAL))
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
