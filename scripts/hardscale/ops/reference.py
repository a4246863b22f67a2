"""The pinned reference of a study: what its tables and artifacts were, and what made them, on the day of the pin.

Beside ``NAME.json`` a folder ``NAME/`` keeps copies of the tables, so that a table that differs can be compared row by
row.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.analysis.outputs import replacing
from hardscale.artifacts.manifest import canonical_json, read_manifest, self_digest, sha256_file
from hardscale.errors import ArtifactError
from hardscale.ops.outcome import DAMAGED, StoppedError
from hardscale.reproduce.inventory import artifacts, damages


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
    return sorted((root / "tables").glob("*.parquet"))


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
