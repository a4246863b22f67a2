"""What a finished job leaves besides its outputs, so that an interrupted controller does not cost the work.

Snakemake deletes the output of a job that it did not see end. A model is its folder, of which Snakemake knows the
manifest only; a copy of the manifest beside the job's state is enough to take the folder for finished again, after
its files were hashed. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST, verify
from hardscale.errors import ArtifactError

RECORD = "published.json"
#: Environment variable that names this run of the controller.
RUN = "HARDSCALE_RUN"
#: Runs that ended in order, one a line, in Snakemake's folder.
ENDED = "hardscale-ended.txt"


def keep(state: Path, identity: str, outs: Sequence[Path]) -> None:
    """Copy the manifests of published outputs into the job's state folder."""
    state.mkdir(parents=True, exist_ok=True)
    manifests = [(folder / MANIFEST).read_text(encoding="utf-8") for folder in outs]
    record = {"identity": identity, "run": os.environ.get(RUN, ""), "manifests": manifests}
    draft = state / f".{RECORD}.{os.getpid()}"
    draft.write_text(json.dumps(record), encoding="utf-8")
    draft.replace(state / RECORD)


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
            draft = folder / f".{MANIFEST}.{os.getpid()}"
            draft.write_text(text, encoding="utf-8")
            draft.replace(folder / MANIFEST)
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
