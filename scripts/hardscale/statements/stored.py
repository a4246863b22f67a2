"""Finished runs whose small tables are kept in the repository: a folder a study and machine under docs/results."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import MANIFEST, canonical_json, open_artifact
from hardscale.artifacts.publish import fresh_draft, put_in_place
from hardscale.errors import DataError

CLAIMS_FILE, SUMMARY_FILE, RUN_FILE, NOTES_FILE = "claims.csv", "summary.md", "run.json", "notes.md"
_WEIGHTS = "model/model.safetensors"
#: The packages that make numbers, of those that manifests name.
_PACKAGES = ("python", "torch")
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class StoredRun:
    """One run of a study on one kind of machine.

    Attributes:
        study: its name.
        name: folder of the run, say ``amd-epyc-7b13-avx2``.
        machine: of each kind of machine that trained a model: ``processor``, ``instruction_set`` and ``torch``.
        versions: of Python and PyTorch.
        models: digest over the weights of all models; equal models have equal ones.
        claims: the table of claims.
        summary: text of summary.md.
    """

    study: str
    name: str
    machine: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    models: str
    claims: pd.DataFrame
    summary: str

    @property
    def label(self) -> str:
        """The machine in words."""
        return "; ".join(_words(one) for one in self.machine)


def store(results: Path, home: Path, name: str | None = None) -> Path:
    """Keep the small tables of a finished run; a run of the same study and name is replaced.

    Args:
        results: ``results/<study>``.
        home: ``docs/results``.
        name: of the run's folder; of its machine when absent.

    Raises:
        DataError: a table is missing, or no machine is recorded and no name given.
        ArtifactError: a model is unfinished.
    """
    for table in (CLAIMS_FILE, SUMMARY_FILE):
        if not paths.table(results, table).is_file():
            raise DataError(f"{results}: no tables/{table}; run the study to its end first (make study)")
    run = _facts(results)
    folder = home / results.resolve().name / (name or _name(run["machine"], results))
    draft = fresh_draft(folder)
    try:
        draft.mkdir()
        for table in (CLAIMS_FILE, SUMMARY_FILE):
            shutil.copyfile(paths.table(results, table), draft / table)
        (draft / RUN_FILE).write_text(json.dumps(run, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def stored_runs(home: Path) -> dict[str, list[StoredRun]]:
    """Study -> its runs by name, in a fixed order; a study may have notes and no run.

    Raises:
        DataError: a run's file is missing or unreadable.
    """
    studies = sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else []
    return {
        study.name: [_read(study.name, path) for path in sorted(study.iterdir()) if path.is_dir()] for study in studies
    }


def _read(study: str, folder: Path) -> StoredRun:
    try:
        facts = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        claims = pd.read_csv(folder / CLAIMS_FILE, keep_default_na=False, na_values=[""])
        summary = (folder / SUMMARY_FILE).read_text(encoding="utf-8")
        known = {key: facts[key] for key in ("versions", "models")}
        return StoredRun(study, folder.name, tuple(facts["machine"]), claims=claims, summary=summary, **known)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: not a stored run ({error}); store it again: scripts/results_page.py --add"
        ) from error


def _facts(results: Path) -> dict[str, Any]:
    """Machine, versions and a digest of the weights, from the manifests of all models."""
    folders = sorted(path.parent for path in (results / paths.top(paths.MODEL)).rglob(MANIFEST))
    manifests = {str(folder.relative_to(results)): open_artifact(folder, "model") for folder in folders}
    weights = {
        name: manifest["files"][_WEIGHTS]["sha256"]
        for name, manifest in manifests.items()
        if _WEIGHTS in manifest["files"]
    }
    machines = [_kept(manifest.get("machine") or {}) for manifest in manifests.values()]
    versions = [manifest["versions"] for manifest in manifests.values()]
    return {
        "machine": [json.loads(text) for text in sorted({canonical_json(one) for one in machines})],
        "models": hashlib.sha256(canonical_json(weights).encode()).hexdigest(),
        "versions": {name: ", ".join(_distinct(one.get(name) for one in versions)) for name in _PACKAGES},
    }


def _kept(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "processor": machine.get("processor") or UNKNOWN,
        "instruction_set": machine.get("instruction_set") or UNKNOWN,
        "torch": machine.get("torch") or UNKNOWN,
    }


def _distinct(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values if value})


def _words(machine: Mapping[str, Any]) -> str:
    choice, torch = machine["instruction_set"], machine["torch"]
    path = (
        "" if choice == UNKNOWN else f", {choice}" + (f" ({torch})" if choice == "native" and torch != UNKNOWN else "")
    )
    return f"{machine['processor']}{path}"


def _name(machines: list[dict[str, Any]], results: Path) -> str:
    """A folder name of a run's machine."""
    if not machines or any(one["processor"] == UNKNOWN for one in machines):
        raise DataError(f"{results}: its models do not record their processor; name the run: --name NAME")
    first = machines[0]
    words = f"{first['processor']} {first['instruction_set']}"
    if first["instruction_set"] == "native":
        words += f" {first['torch']}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower().replace("(r)", "").replace("(tm)", "")).strip("-")
