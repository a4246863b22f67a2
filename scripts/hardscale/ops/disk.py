"""Bytes on disk by what they are for; files that share their bytes through hard links counted once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import MANIFEST
from hardscale.ops.snakemake_metadata import SNAKEMAKE
from hardscale.plan.paths import StudyPaths
from hardscale.plan.table import CONTINUOUS, FINETUNE, PRETRAIN, ROUNDS

#: Template -> kind, in the order in which shared bytes are given to one of them.
_KINDS = {
    paths.TASK: "tasks",
    paths.BASE: "base models",
    paths.PRETRAINED: "base models",
    paths.MODEL: "models",
    paths.ATTACK: "attacks",
    **dict.fromkeys((paths.UTILITY, paths.LM_EVAL, paths.MT_BENCH), "measures"),
    paths.TABLE: "tables",
    paths.FIGURE: "figures",
    paths.LOG: "logs",
    paths.BENCHMARK: "logs",
    paths.STATE: "state",
}
#: State folders, those first that others' templates fit as well.
_STATES = [
    paths.fill(paths.STATE, place=kind.state.replace("{first}", "{round}"))
    for kind in (PRETRAIN, FINETUNE, ROUNDS, CONTINUOUS)
    if kind.state is not None
]
RANKS, DRAFTS, OTHER, WORKFLOW = "ranks", "drafts", "other", ".snakemake"
KINDS = (*dict.fromkeys(_KINDS.values()), RANKS, DRAFTS, OTHER, WORKFLOW)
_DRAFT = ".tmp-"


@dataclass(frozen=True)
class FileOnDisk:
    """A file: path, its identity on the file system, links to it, length, bytes that it takes on disk."""

    path: str
    inode: tuple[int, int]
    links: int
    length: int
    used: int


@dataclass
class Usage:
    """Bytes of one kind or one folder.

    Attributes:
        files: names; a file with two names counts twice.
        apparent: sum of their lengths.
        used: bytes on disk, every file counted once.
    """

    files: int = 0
    apparent: int = 0
    used: int = 0


def files(root: Path) -> Iterator[FileOnDisk]:
    """Every file below a folder, or the file itself, without following links; what vanishes meanwhile is left out."""
    if root.is_symlink() or root.is_file():
        yield from _file(str(root))
        return
    for place, _, names in os.walk(root):
        for name in names:
            yield from _file(f"{place}/{name}")


def _file(path: str) -> Iterator[FileOnDisk]:
    try:
        found = os.lstat(path)
    except OSError:
        return
    yield FileOnDisk(path, (found.st_dev, found.st_ino), found.st_nlink, found.st_size, found.st_blocks * 512)


def usage(layout: StudyPaths) -> tuple[dict[str, Usage], dict[str, Usage]]:
    """Bytes of a study and of ``.snakemake``, each shared file counted where the first kind of ``KINDS`` holds it.

    Returns:
        By kind; by artifact, state folder or other folder.
    """
    kinds = {kind: Usage() for kind in KINDS}
    places: dict[str, Usage] = {}
    known: set[tuple[int, int]] = set()
    found = [(kind_of(file.path, layout), file) for root in (layout.root, SNAKEMAKE) for file in files(root)]
    found.sort(key=lambda entry: KINDS.index(entry[0]))
    for kind, file in found:
        new = file.inode not in known
        known.add(file.inode)
        for entry in (kinds[kind], places.setdefault(_place(file.path, layout), Usage())):
            entry.files += 1
            entry.apparent += file.length
            entry.used += file.used if new else 0
    return kinds, places


def kind_of(path: str, layout: StudyPaths) -> str:
    """What a file below results/<study> or ``.snakemake`` is for."""
    root = f"{layout.root}/"
    if not path.startswith(root):
        return WORKFLOW
    parts = path.removeprefix(root).split("/")
    folders = parts[:-1]
    if any(is_draft(part) for part in folders):
        return DRAFTS
    place = "/".join(folders) + "/"
    kind = next((kind for template, kind in _KINDS.items() if place.startswith(f"{paths.top(template)}/")), OTHER)
    return RANKS if kind == "state" and RANKS in folders else kind


def is_draft(name: str) -> bool:
    """Whether a folder's name is that of an artifact being written."""
    return name.startswith(".") and _DRAFT in name


def _place(path: str, layout: StudyPaths) -> str:
    """The folder that people think of: an artifact, a job's state, or two levels of anything else."""
    root = f"{layout.root}/"
    if not path.startswith(root):
        return "/".join(path.split("/")[:2])
    parts = path.removeprefix(root).split("/")[:-1]
    place = "/".join(parts) + "/"
    depth = next((paths.depth(t) for t in paths.ARTIFACTS if place.startswith(f"{paths.top(t)}/")), 1)
    if place.startswith(f"{paths.top(paths.STATE)}/"):
        depth = next((paths.depth(state) for state in _STATES if _within(state, parts)), 7)
    return root + "/".join(parts[:depth])


def _within(template: str, parts: Sequence[str]) -> bool:
    """Whether a folder is, or lies in, one of a template."""
    return paths.parse(template, "/".join(parts[: paths.depth(template)])) is not None


def freed(places: Iterable[Path]) -> dict[Path, int]:
    """Bytes that removing each of some paths in turn gives back: a file's when its last name goes."""
    left: dict[tuple[int, int], int] = {}
    found: dict[Path, int] = {}
    for path in places:
        found[path] = 0
        for file in files(path):
            left[file.inode] = left.get(file.inode, file.links) - 1
            if not left[file.inode]:
                found[path] += file.used
    return found


def artifact_folders(root: Path) -> Iterator[Path]:
    """Every published artifact below a folder, drafts left out."""
    for place, names, found in os.walk(root):
        names[:] = [name for name in names if not is_draft(name)]
        if MANIFEST in found:
            names.clear()
            yield Path(place)
