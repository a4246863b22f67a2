"""The pinned reference of a study: what its tables and artifacts were, and what made them, on the day of the pin.

Beside ``NAME.json`` a folder ``NAME/`` keeps copies of the tables, so that a table that differs can be compared row by
row.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.artifacts import paths
from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.manifest import MANIFEST, canonical_json, read_manifest, self_digest, sha256_file, verify
from hardscale.errors import ArtifactError, DataError
from hardscale.ops.differences import compare_files
from hardscale.ops.outcome import BROKEN, DAMAGED, DIFFERS, MISSING, SAME, Finding, StoppedError
from hardscale.plan.paths import RESULTS

#: Folders beside the artifacts; what lies there is no artifact, or not a finished one.
_PLACES = (paths.STATE, paths.LOG, paths.BENCHMARK, paths.TABLE, paths.FIGURE)
_BESIDE = frozenset({"drift", "reference", *(place.partition("/")[0] for place in _PLACES)})


@dataclass(frozen=True)
class Reference:
    """A pin.

    Attributes:
        path: its file.
        pinned: when, as ISO text in UTC.
        facts: of the machine, the packages, the code and the study.
        tables: file name -> sha256.
        artifacts: folder relative to the results -> digests of its manifest and of its content.
    """

    path: Path
    study: str
    pinned: str
    facts: dict[str, str]
    tables: dict[str, str]
    artifacts: dict[str, dict[str, str]]

    def table(self, name: str) -> Path | None:
        """The copy of a pinned table; None when it is gone or no longer what was pinned."""
        path = copies(self.path) / name
        return path if path.is_file() and sha256_file(path) == self.tables.get(name) else None


def copies(path: Path) -> Path:
    """The folder with the copies of the tables of a reference."""
    return path.with_suffix("")


def tables_of(root: Path) -> list[Path]:
    """The tables that are pinned and compared."""
    return sorted((root / paths.top(paths.TABLE)).glob("*.parquet"))


def content_digest(manifest: dict[str, Any]) -> str:
    """Digest of an artifact's files and facts alone: making it again with other package versions may keep it."""
    content = {"files": manifest["files"], "facts": manifest["facts"]}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def pin(root: Path, path: Path, facts: dict[str, str], each: Callable[[], None] = lambda: None) -> Reference:
    """Pin the results in ``root`` as they stand.

    Raises:
        StoppedError: there is nothing to pin, or something is damaged.
    """
    tables, folders = tables_of(root), artifacts(root)
    if not tables or not folders:
        raise StoppedError(f"{root}: no finished tables to pin; run snakemake first")
    damaged = damages(root, each)
    if damaged:
        raise StoppedError(f"{damaged[0].reason} ({len(damaged)} in all); nothing was pinned, run make verify", DAMAGED)
    manifests = {folder.relative_to(root).as_posix(): read_manifest(folder) for folder in folders}
    content = {
        "study": root.name,
        "pinned": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "facts": facts,
        "tables": {table.name: sha256_file(table) for table in tables},
        "artifacts": {
            name: {"manifest": manifest["self"], "content": content_digest(manifest)}
            for name, manifest in manifests.items()
        },
    }
    copies(path).mkdir(parents=True, exist_ok=True)
    for table in tables:
        with replacing(copies(path) / table.name) as draft:
            shutil.copyfile(table, draft)
    with replacing(path) as draft:
        text = json.dumps({**content, "self": self_digest(content)}, indent=1, sort_keys=True, ensure_ascii=False)
        draft.write_text(text + "\n", encoding="utf-8")
    return read_reference(path)


def read_reference(path: Path) -> Reference:
    """Read a pin.

    Raises:
        StoppedError: there is none.
        ArtifactError: it was edited or cut off.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoppedError(
            f"{path}: no pinned reference; look at the results, then pin them with cron.py pin"
        ) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: unreadable ({error}); restore it, or pin anew with --replace") from error
    if not isinstance(content, dict) or content.get("self") != self_digest(content):
        raise ArtifactError(
            f"{path}: content and its own digest differ (edited?); restore it, or pin anew with --replace"
        )
    # An earlier version spelled the last one so.
    found = {"artifacts" if name == "artefacts" else name: value for name, value in content.items() if name != "self"}
    return Reference(path=path, **found)


@dataclass(frozen=True)
class Damage:
    """An artifact folder that cannot be read as what it was published as. ``half``: it has no manifest at all."""

    folder: Path
    reason: str
    half: bool = False


def artifacts(root: Path) -> list[Path]:
    """Folders with a manifest under ``results/<study>``, in order."""
    return sorted(folder for folder, whole in _folders(root) if whole)


def unfinished(root: Path) -> list[Path]:
    """Folders that hold files where an artifact belongs, but no manifest."""
    return sorted(folder for folder, whole in _folders(root) if not whole)


def damages(root: Path, each: Callable[[], None] = lambda: None) -> list[Damage]:
    """Re-hash every artifact; ``each`` is called after each of them."""
    found = [Damage(folder, f"{folder}: files without a {MANIFEST}", half=True) for folder in unfinished(root)]
    for folder in artifacts(root):
        try:
            verify(folder)
        except ArtifactError as error:
            found.append(Damage(folder, str(error)))
        each()
    return sorted(found, key=lambda damage: damage.folder)


def _folders(root: Path) -> Iterator[tuple[Path, bool]]:
    """The highest folders with files in them, and whether one of these files is a manifest. Drafts are hidden ones."""
    if not root.is_dir():
        return
    for start in sorted(root.iterdir()):
        if not start.is_dir() or start.name in _BESIDE or start.name.startswith("."):
            continue
        for name, below, files in os.walk(start):
            below[:] = sorted(one for one in below if not one.startswith("."))
            if any(not file.startswith(".") for file in files):
                below.clear()
                yield Path(name), MANIFEST in files


def check(root: Path, reference: Reference, each: Callable[[], None] = lambda: None) -> list[Finding]:
    """Re-hash every artifact and compare it, and every table, with the reference."""
    return [*check_artifacts(root, reference, each), *check_tables(root, reference)]


def check_artifacts(root: Path, reference: Reference, each: Callable[[], None] = lambda: None) -> list[Finding]:
    """A finding for each artifact that is damaged, missing or other than pinned, and one for all others."""
    broken = {damage.folder: damage.reason for damage in damages(root, each)}
    found = [Finding(_name(folder, root), BROKEN, found=reason) for folder, reason in broken.items()]
    folders = {_name(folder, root): folder for folder in artifacts(root)}
    n_same = n_new = n_remade = 0
    for name, folder in folders.items():
        if folder in broken:
            continue
        pinned = reference.artifacts.get(name)
        try:
            manifest = read_manifest(folder)
        except ArtifactError as error:  # it went away just now
            found.append(Finding(name, BROKEN, found=str(error)))
            continue
        if pinned is None:
            n_new += 1
        elif manifest["self"] == pinned["manifest"]:
            n_same += 1
        elif content_digest(manifest) == pinned["content"]:
            n_remade += 1
        else:
            digests = pinned["content"][:12], content_digest(manifest)[:12]
            found.append(Finding(name, DIFFERS, f"content {digests[0]}", f"content {digests[1]}, made again since"))
    known = {*folders, *(_name(folder, root) for folder in broken)}
    gone = [name for name in reference.artifacts if name not in known]
    found += [Finding(name, MISSING, "an artifact", "nothing") for name in gone]
    if n_same + n_remade:
        notes = [f"{n_remade} made again with the same result"] * bool(n_remade)
        notes += [f"{n_new} more than pinned"] * bool(n_new)
        found.append(Finding(f"{n_same + n_remade} artifacts", SAME, found=", ".join(notes)))
    return found


def check_tables(root: Path, reference: Reference) -> list[Finding]:
    """A finding for each pinned table."""
    there = {path.name: path for path in tables_of(root)}
    return [_table(name, there.get(name), reference) for name in sorted(reference.tables)]


def _table(name: str, path: Path | None, reference: Reference) -> Finding:
    what, pinned = f"tables/{name}", reference.tables[name]
    if path is None:
        return Finding(what, MISSING, pinned[:12], "nothing")
    digest = sha256_file(path)
    if digest == pinned:
        return Finding(what, SAME, pinned[:12], digest[:12])
    before = reference.table(name)
    try:
        if before is None:
            return Finding(what, DIFFERS, pinned[:12], f"{digest[:12]}; no copy of the pinned table to compare with")
        difference = compare_files(before, path)
    except DataError as error:
        return Finding(what, BROKEN, pinned[:12], str(error))
    if not difference:
        return Finding(what, SAME, pinned[:12], f"{digest[:12]}, equal content in other bytes")
    return Finding(what, DIFFERS, pinned[:12], difference.describe(), difference.max_difference)


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def targets(root: Path, damages: Sequence[Damage]) -> list[str]:
    """The damaged artifacts as Snakemake's targets, relative to the working directory of the study."""
    here = RESULTS / root.name
    return [(here / damage.folder.relative_to(root) / MANIFEST).as_posix() for damage in damages]


def rerun_command(root: Path, configfiles: Sequence[str], wanted: Sequence[str] = ()) -> str:
    """The command that builds ``wanted`` again, or everything that is missing and what depends on it."""
    command = ["snakemake", "--cores", "all", "--rerun-incomplete"]
    if root.is_absolute():
        command += ["--directory", str(root.parents[1])]
    command += [*wanted]
    if configfiles:
        command += ["--configfile", *configfiles]
    return shlex.join(command)


def remove(root: Path, damages: Sequence[Damage]) -> None:
    """Remove the damaged folders and nothing else.

    Raises:
        ArtifactError: one lies outside of ``root``, is a link, or cannot be removed.
    """
    for damage in damages:
        folder = damage.folder
        inside = folder.parent.resolve().is_relative_to(root.resolve()) and folder != root
        if not inside or folder.is_symlink():
            raise ArtifactError(f"{folder}: not a folder inside {root}; remove it by hand")
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise ArtifactError(f"{folder}: cannot be removed ({error.strerror}); remove it by hand") from error
