"""Mode ``check``: whether the results on disk are still what was pinned. Reads and hashes, runs no job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hardscale.artifacts.manifest import read_manifest, sha256_file
from hardscale.errors import ArtifactError, DataError
from hardscale.ops.differences import compare_files
from hardscale.ops.outcome import BROKEN, DIFFERS, MISSING, SAME, Finding
from hardscale.ops.reference import Reference, content_digest, tables_of
from hardscale.reproduce.inventory import artifacts, damages


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
