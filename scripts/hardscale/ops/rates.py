"""The rates that results come down to: attacked share, attack success, clean accuracy; of an artifact or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from hardscale.artifacts.manifest import read_manifest
from hardscale.artifacts.schemas import ATTACK, CLEAN, RUNS
from hardscale.artifacts.tables import read_table
from hardscale.reproduce.intervals import Rates

Counts = dict[str, tuple[int, int]]
_RUN = ("task", "family", "scale", "seed", "defense", "round", "attack", "position")


def artifact_rates(folder: Path) -> Counts:
    """Name -> successes and trials of an attack or a model; nothing for other artifacts.

    Raises:
        ArtifactError: the artifact has no manifest.
        DataError: its table can not be read.
    """
    manifest = read_manifest(folder)
    if manifest["kind"] == "attack":
        rows = read_table(folder / "attack.parquet", ATTACK, columns=["success", "first_success"])
        held, ever = pc.sum(rows["success"]).as_py() or 0, rows.num_rows - rows["first_success"].null_count
        facts = manifest["facts"]
        return {
            "attacked": (int(facts["n_attacked"]), int(facts["n_examples"])),
            "success": (int(held), rows.num_rows),
            "success at any iteration": (ever, rows.num_rows),
        }
    if manifest["kind"] == "model":
        rows = read_table(folder / "clean.parquet", CLEAN)
        right = pc.sum(pc.equal(rows["prediction"], rows["label"])).as_py() or 0
        return {"clean accuracy": (int(right), rows.num_rows)}
    return {}


def table_rates(path: Path) -> Counts:
    """The same of a table of runs, each attack after its last iteration.

    Raises:
        DataError: the table can not be read.
    """
    last: dict[str, dict[str, Any]] = {}
    for row in read_table(path, RUNS).to_pylist():
        key = "/".join(str(row[name]) for name in _RUN)
        if key not in last or row["iteration"] > last[key]["iteration"]:
            last[key] = row
    counts: Counts = {}
    for key, row in last.items():
        counts[f"{key} attacked"] = (row["n_attacked"], row["n_examples"])
        for name, column in (("success", "n_success"), ("success at any iteration", "n_success_any")):
            if row[column] is not None:
                counts[f"{key} {name}"] = (row[column], row["n_attacked"])
        if row["clean_accuracy"] is not None and row["n_clean_examples"]:
            n = row["n_clean_examples"]
            model = key.rsplit("/", 2)[0]
            counts[f"{model} clean accuracy"] = (round(row["clean_accuracy"] * n), n)
    return counts


def paired(expected: Counts, found: Counts, prefix: str = "") -> list[Rates]:
    """The rates that both sides have."""
    return [Rates(f"{prefix}{name}", expected[name], found[name]) for name in expected if name in found]
