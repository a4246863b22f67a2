"""Files that can be deleted safely, now and for the next run: what ``make gc`` lists and removes."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hardscale.artifacts import paths
from hardscale.artifacts.atomic import write_whole
from hardscale.artifacts.locks import try_lock
from hardscale.artifacts.manifest import MANIFEST, read_manifest, self_digest
from hardscale.artifacts.publish import manifest_text
from hardscale.errors import ArtifactError
from hardscale.launch.state import NAME as NOTE
from hardscale.launch.state import RECORD, read_note
from hardscale.ops.disk import artifact_folders, files, is_draft
from hardscale.ops.job_state import DONE, QUEUED, RUNNING, Survey, driven, ranks_here
from hardscale.ops.snakemake_metadata import SNAKEMAKE
from hardscale.plan.table import DEFENDED

DRAFT, STATE, WEIGHTS, SLURM_LOG, ORPHAN = "draft", "state", "weights", "Slurm log", "orphan"
_DRAFT_SECONDS = 3600.0
_DAY = 86400.0
#: What a training job needs no more when it is done. Its record of what it published is small and stays.
_STATE_FOLDERS = ("checkpoints", "finished", "carry", "ranks", "gang")  # the last: of an earlier version
#: What a training job's state folder is known by.
_STATE_PARTS = frozenset({*_STATE_FOLDERS, "driver.lock", NOTE, RECORD})
#: Attacks first: tables are collected from every attack that lies there, and each needs its model's record.
_ARTIFACTS = tuple(map(paths.top, reversed(paths.ARTIFACTS)))
#: ``results/<study>`` and ``.snakemake/slurm_logs`` are kept even if empty.
_KEPT_DEPTH = 2
MODEL = "model"


@dataclass(frozen=True)
class Garbage:
    """Something to remove: a folder or a file; of ``weights`` the ``model`` folder of an artifact that stays."""

    kind: str
    path: Path


def garbage(
    survey: Survey, *, orphans: bool = False, log_days: float = 30.0, now: float | None = None
) -> list[Garbage]:
    """Everything that can go.

    Nothing on the list is read by, contains, or lies inside anything that an unfinished job reads. Where Slurm does not
    answer, or a job of this folder lives that is not known, drafts and state stay.

    Args:
        survey: the study.
        orphans: list artifacts and state, too, that the study no longer asks for: of removed cells, defenses, attacks.
        log_days: Slurm's logs older than this are listed.
        now: seconds of the epoch; the clock's when None.
    """
    moment = time.time() if now is None else now
    found = [*_weights(survey), *_slurm_logs(survey, moment - log_days * _DAY)]
    if not strangers(survey):
        found += [*_drafts(survey, moment), *_finished_states(survey)]
        if orphans:
            found += [*_orphan_artifacts(survey), *_orphan_states(survey)]
    return without_needed(found, survey.needed)


def strangers(survey: Survey) -> str:
    """Why it is not known what writes in this folder; empty when it is."""
    if survey.slurm.problem:
        return survey.slurm.problem
    known = {seen.live.slurm_id for seen in survey.seen if seen.live}
    others = sorted(job.id for job in survey.slurm.here if job.live and job.id not in known)
    return f"Slurm job {others[0]} runs in this folder and is not known to the study" if others else ""


def without_needed(found: Iterable[Garbage], needed: set[str]) -> list[Garbage]:
    """The list without anything that is needed, holds something needed or lies in it; no entry lies in another."""
    around = {str(parent) for path in needed for parent in Path(path).parents}

    def is_needed(path: Path) -> bool:
        return str(path) in needed | around or any(str(parent) in needed for parent in path.parents)

    kept = [one for one in found if not is_needed(one.path)]
    places = {one.path for one in kept}
    return [one for one in kept if places.isdisjoint(one.path.parents)]


def _drafts(survey: Survey, now: float) -> Iterator[Garbage]:
    """Drafts of killed publishers: an hour without a write, and no job that could be writing them."""
    live = [seen.step for seen in survey.steps(RUNNING, QUEUED)]
    live_folders = {folder for step in live for folder in step.folders}
    live_states = tuple(f"{step.state}/" for step in live if step.state)
    for place, names, _ in os.walk(survey.jobs.layout.root):
        drafts = [name for name in names if is_draft(name)]
        names[:] = [name for name in names if name not in drafts]
        for name in drafts:
            path = Path(place) / name
            written = str(path.with_name(name[1:].split(".tmp-")[0]))
            if written in live_folders or str(path).startswith(live_states) or now - _newest(path) < _DRAFT_SECONDS:
                continue
            yield Garbage(DRAFT, path)


def _newest(path: Path) -> float:
    """When a file, or something in a folder, was last written; now when that cannot be told."""
    try:
        times = [path.stat().st_mtime, *(os.lstat(file.path).st_mtime for file in files(path))]
    except OSError:
        return time.time()
    return max(times)


def _finished_states(survey: Survey) -> Iterator[Garbage]:
    for seen in survey.steps(DONE):
        if seen.step.state is None:
            continue
        state = Path(seen.step.state)
        present = [state / name for name in _STATE_FOLDERS if (state / name).is_dir()]
        if present and not in_use(state, survey):
            yield from (Garbage(STATE, path) for path in present)


def in_use(state: Path, survey: Survey) -> bool:
    """Whether a driver, a rank or a Slurm job works in a state folder."""
    note = read_note(state)
    return driven(state) or ranks_here(state / "ranks") or (note is not None and survey.slurm.live(note.job_id))


def _weights(survey: Survey) -> Iterator[Garbage]:
    """Weights of rounds that nothing evaluates and no block starts from; training itself does not publish such."""
    kept = {str(folder) for folder in survey.jobs.grid.model_folders()}
    for seen in survey.steps(DONE):
        if seen.step.phase == DEFENDED:
            for folder in seen.step.folders:
                if folder not in kept and Path(folder, MODEL).is_dir():
                    yield Garbage(WEIGHTS, Path(folder, MODEL))


def _slurm_logs(survey: Survey, before: float) -> Iterator[Garbage]:
    for path in (SNAKEMAKE / "slurm_logs").rglob("*.log"):
        live = path.stem.isdigit() and survey.slurm.live(int(path.stem))
        if not live and _newest(path) < before:
            yield Garbage(SLURM_LOG, path)


def _orphan_artifacts(survey: Survey) -> Iterator[Garbage]:
    asked = {folder for seen in survey.seen for folder in seen.step.folders}
    for kind in _ARTIFACTS:
        for folder in artifact_folders(survey.jobs.layout.root / kind):
            if str(folder) not in asked:
                yield Garbage(ORPHAN, folder)


def _orphan_states(survey: Survey) -> Iterator[Garbage]:
    asked = {seen.step.state for seen in survey.seen if seen.step.state}
    for place, names, found in os.walk(survey.jobs.layout.root / paths.top(paths.STATE)):
        if place in asked:
            names.clear()
        elif _STATE_PARTS & {*names, *found}:
            names.clear()
            if not in_use(Path(place), survey):
                yield Garbage(ORPHAN, Path(place))


def refusal(survey: Survey) -> str:
    """Why nothing may be removed now; empty when it may."""
    controller = survey.controller
    if controller is None or controller.alive is False:
        return survey.slurm.problem
    if controller.alive:
        return f"a controller lives ({controller.text}); run gc when it has ended"
    return f"a controller may live ({controller.text}); run gc on its machine, or after the study's next run"


def remove(items: Iterable[Garbage]) -> Iterator[tuple[Garbage, str]]:
    """Remove one after another; each with the reason why it stays, empty when it is gone."""
    for one in items:
        try:
            yield one, _remove(one)
        except (OSError, ArtifactError) as error:
            yield one, str(error)


def _remove(one: Garbage) -> str:
    if one.kind == WEIGHTS:
        prune_weights(one.path.parent)
        return ""
    if one.path.is_file():
        one.path.unlink(missing_ok=True)
    else:
        with _undriven(one.path) as free:
            if not free:
                return "a job works in it"
            # Without its manifest a folder is no artifact, however much of it is left.
            (one.path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(one.path)
    _remove_empty(one.path.parent)
    return ""


@contextlib.contextmanager
def _undriven(folder: Path) -> Iterator[bool]:
    """Hold the lock of a state folder or of one in it, so that no driver starts there; False when one has.

    Folders of other kinds have no lock. Where the file system knows none, a driver may be anywhere.
    """
    with contextlib.ExitStack() as stack:
        for path in (folder / "driver.lock", folder.parent / "driver.lock"):
            if not path.exists():
                continue
            if not try_lock(stack.enter_context(path.open("a"))):
                yield False
                return
        yield True


def _remove_empty(folder: Path) -> None:
    """Remove folders that became empty, up to the study's own."""
    with contextlib.suppress(OSError):
        while len(folder.parts) > _KEPT_DEPTH:
            folder.rmdir()
            folder = folder.parent


def prune_weights(folder: Path) -> None:
    """Remove ``model/`` from a published model and from its manifest, which keeps its time.

    The manifest becomes the one that training writes for a round whose weights the study does not ask for. It is
    replaced first, so that the artifact is valid at every moment.

    Raises:
        ArtifactError: the manifest is missing or was edited.
    """
    manifest = read_manifest(folder)
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if not name.startswith(f"{MODEL}/")}
    manifest["facts"]["has_weights"] = False
    manifest["self"] = self_digest(manifest)
    path = folder / MANIFEST
    write_whole(path, manifest_text(manifest), synced=True, times=path.stat())
    shutil.rmtree(folder / MODEL)
