"""What a finished job leaves besides its outputs, so that work survives a killed controller.

Snakemake deletes the output of a job that it did not see end. A model is its folder, of which Snakemake knows the
manifest only; a copy of the manifest beside the job's state is enough to take the folder for finished again, after
its files were hashed. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hardscale.artifacts.atomic import naming_disk_errors, of_full_disk, write_whole
from hardscale.artifacts.manifest import MANIFEST, verify
from hardscale.errors import ArtifactError, HardscaleError

RECORD = "published.json"
#: Environment variable that names this run of the controller.
RUN = "HARDSCALE_RUN"
#: Runs that ended in order, one a line, in Snakemake's folder.
ENDED = "hardscale-ended.txt"


NAME = "job.json"
#: Less than this is full: no checkpoint is so small.
_FULL_BYTES = 2**16
#: What makes a checkpoint count (:mod:`hardscale.training.session`).
_SEAL = "seal.json"


def keep(state: Path, identity: str, outs: Sequence[Path]) -> None:
    """Copy the manifests of published outputs into the job's state folder."""
    state.mkdir(parents=True, exist_ok=True)
    manifests = [(folder / MANIFEST).read_text(encoding="utf-8") for folder in outs]
    record = {"identity": identity, "run": os.environ.get(RUN, ""), "manifests": manifests}
    write_whole(state / RECORD, json.dumps(record))


def restore(state: Path, identity: str, outs: Sequence[Path]) -> bool:
    """Put back the manifests of outputs that an interrupted run had finished; whether all of them are there and whole.

    A run that ended in order is not interrupted: who deletes its output or forces a job wants it made again.
    """
    try:
        record = json.loads((state / RECORD).read_text(encoding="utf-8"))
        if record["identity"] != identity or len(record["manifests"]) != len(outs):
            return False
        if not record["run"] or _ended_in_order(record["run"]):
            return False
        for folder, text in zip(outs, record["manifests"], strict=True):
            write_whole(folder / MANIFEST, text)
        for folder in outs:
            verify(folder)
    except (OSError, ValueError, KeyError, TypeError, ArtifactError):
        for folder in outs:
            (folder / MANIFEST).unlink(missing_ok=True)
        return False
    return True


def end_run(folder: Path = Path(".snakemake")) -> None:
    """Note that this run of the controller ended in order: Snakemake saw the end of all of its jobs."""
    if run := os.environ.get(RUN):
        with (folder / ENDED).open("a", encoding="utf-8") as file:
            file.write(run + "\n")


def _ended_in_order(run: str) -> bool:
    with contextlib.suppress(OSError):
        return run in (Path(".snakemake") / ENDED).read_text(encoding="utf-8").split("\n")
    return False


@dataclass(frozen=True)
class Note:
    """A submitted distributed job.

    Attributes:
        job_id: Slurm's number.
        name: Slurm's job name, ``hs-`` and 12 hex digits of what the job is.
        identity: digest of what is trained: settings, inputs and code.
        folder: submitit's folder, where the results of the ranks appear.
        tasks: ranks.
        submitted: UTC, ISO 8601.
        host: where it was submitted.
    """

    job_id: int
    name: str
    identity: str
    folder: str
    tasks: int
    submitted: str
    host: str

    def write(self, state: Path) -> None:
        """Put the note into a job's state folder, whole or not at all."""
        write_whole(state / NAME, json.dumps(asdict(self), indent=1), synced=True)


def read_note(state: Path) -> Note | None:
    """The note in a state folder; None without one, or when it cannot be understood."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Note(**json.loads((state / NAME).read_text(encoding="utf-8")))
    return None


def remove_note(state: Path) -> None:
    """Forget the distributed job: it has ended."""
    (state / NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def naming_a_full_disk(state: Path, checkpoints: Path | None = None) -> Iterator[None]:
    """Turn what a full disk does into one line that names the place.

    Args:
        state: what the line names when the error does not.
        checkpoints: where the half-written one is emptied, to make room for that line. Only for ranks: one that fails
            keeps the others from finishing it.

    Raises:
        ArtifactError: the disk is full; other errors pass.
    """
    try:
        yield
    except Exception as error:
        if not of_full_disk(error):
            raise
        if checkpoints is not None:
            _empty_half_written(checkpoints)
        if isinstance(error, HardscaleError):
            raise
        with naming_disk_errors(state):
            raise


def full_disk(folder: Path) -> str:
    """What to add to an error when nothing more can be written to a folder; empty when something can."""
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
        if free < _FULL_BYTES:
            return (
                f"; the disk of {folder} is full ({free / 2**20:.1f} MiB free): free some space, "
                "then the same command resumes from the last checkpoint"
            )
    return ""


def _empty_half_written(checkpoints: Path) -> None:
    # Emptied, not removed: another rank may be about to write there, and would tell of a folder that is gone.
    for tag in checkpoints.glob("step*"):
        if not (tag / _SEAL).exists():
            for path in tag.rglob("*"):
                with contextlib.suppress(OSError):
                    if path.is_file():
                        os.truncate(path, 0)
