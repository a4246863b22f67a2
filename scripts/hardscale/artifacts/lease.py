"""One live writer of an artifact folder, across hosts.

Two jobs may come to make the same artifact: the orphan of a killed controller that a cluster still runs, and the job
that the next controller submits. The second waits for the first, and then finds its work done.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardscale.artifacts.atomic import naming_disk_errors
from hardscale.artifacts.locks import Heartbeat, Owner, is_held, lock, read_owner
from hardscale.artifacts.manifest import open_artifact, read_manifest
from hardscale.errors import ArtifactError
from hardscale.runtime.console import say
from hardscale.runtime.signals import signals_held_back

_BEAT_SECONDS = 15.0
_PATIENCE_SECONDS = 180.0
#: How often a waiter looks whether a lease is gone, and whether its holder on another host is dead.
_LOOK_SECONDS = 0.5
_JUDGE_SECONDS = 10.0
_TAKEOVER = "takeover.lock"
_NAMED_PARTS = 4


@dataclass
class Held:
    """A lease that this process holds.

    Attributes:
        path: the lease file.
        owner: this process.
        earlier: those who held it while this process waited, in order.
    """

    path: Path
    owner: Owner
    earlier: list[Owner] = field(default_factory=list)
    _handle: int | None = field(default=None, init=False, repr=False)
    _heart: Heartbeat | None = field(default=None, init=False, repr=False)

    def take(self) -> bool:
        """Take the lease unless somebody has it."""
        with signals_held_back():  # told to end within these lines, it would leave a lease that it does not know of
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                return False
            try:
                os.write(handle, self.owner.text.encode())
            except OSError:
                self.path.unlink(missing_ok=True)
                os.close(handle)
                raise
            self._handle, self._heart = handle, Heartbeat(handle, _BEAT_SECONDS)
            return True

    def give_back(self) -> None:
        """Give the lease back if it is still this process's."""
        with signals_held_back():
            if self._handle is None or self._heart is None:
                return
            self._heart.stop()
            os.close(self._handle)
            with _takeovers(self.path.parent):
                if read_owner(self.path) == self.owner:
                    self.path.unlink(missing_ok=True)

    def done_before(self, folder: Path, kind: str, spec: dict[str, Any], inputs: dict[str, Path]) -> bool:
        """Whether the one who held the lease just before published what this process is to make.

        Only an artifact of the same settings, inputs and version of the code counts; without a wait nothing does.
        """
        if not self.earlier or self.earlier[-1].version != self.owner.version:
            return False
        with contextlib.suppress(ArtifactError):
            manifest = open_artifact(folder, kind)
            digests = {name: read_manifest(path)["self"] for name, path in inputs.items()}
            return bool(manifest["spec"] == spec and manifest["inputs"] == digests)
        return False


@contextlib.contextmanager
def lease(folder: Path, place: Path, label: str, version: str = "") -> Iterator[Held]:
    """Be the only writer of an artifact folder.

    Waits for a living holder. The lease of a dead one (its process or Slurm job is gone, or it has been silent for
    three minutes) is taken over.

    Args:
        folder: the artifact's folder.
        place: where leases are kept, seen by all hosts; it may be reached by different paths from different hosts, as
            long as the way from it to ``folder`` is the same.
        label: what is made, for the line that a waiter shows.
        version: of the code that makes it; see :meth:`Held.done_before`.
    """
    held = Held(place / _name(folder, place), Owner.me(version))
    try:
        with naming_disk_errors(place):
            _acquire(held, label)
        yield held
    finally:
        held.give_back()


def _name(folder: Path, place: Path) -> str:
    way = Path(os.path.relpath(folder.resolve(), place.resolve()))
    digest = hashlib.sha256(way.as_posix().encode()).hexdigest()[:12]
    named = [part for part in way.parts if part != ".."][-_NAMED_PARTS:]
    return f"{'.'.join(named)[-150:]}-{digest}.lease"


def _acquire(held: Held, label: str) -> None:
    """Wait for the lease and take it."""
    said, judged = "", 0.0
    while True:
        held.path.parent.mkdir(parents=True, exist_ok=True)
        if held.take():
            return
        owner = read_owner(held.path)
        if owner is not None and owner.token != said:
            said, judged = owner.token, 0.0
            held.earlier.append(owner)
            say(f"{label}: another job is making it ({owner.described}); waiting for it")
        patience = 0.0 if owner is None or owner.near else _JUDGE_SECONDS
        if time.monotonic() - judged >= patience:
            judged = time.monotonic()
            _take_over(held, label)
        time.sleep(_LOOK_SECONDS)


def _take_over(held: Held, label: str) -> None:
    """Clear away the lease of a dead holder, so that one of those who wait can make a new one."""
    place = held.path.parent
    if is_held(held.path, read_owner(held.path), place / _TAKEOVER, _PATIENCE_SECONDS):
        return
    with _takeovers(place):
        # Another waiter may have been faster: judge again what lies there now.
        owner = read_owner(held.path)
        if is_held(held.path, owner, place / _TAKEOVER, _PATIENCE_SECONDS):
            return
        trash = held.path.with_suffix(f".{held.owner.token}")
        try:
            held.path.rename(trash)
        except FileNotFoundError:
            return
        if read_owner(trash) != owner:
            # Where hosts do not see each other's locks, a living holder's lease can have come in between.
            with contextlib.suppress(FileExistsError):
                os.link(trash, held.path)
            trash.unlink()
            return
        trash.unlink()
    say(f"{label}: whoever was making it is gone ({owner.described if owner else 'nobody signed'}); taking over")


@contextlib.contextmanager
def _takeovers(place: Path) -> Iterator[None]:
    """One takeover at a time, as far as the file system's locks reach."""
    with (place / _TAKEOVER).open("a") as file:
        lock(file)
        yield
