"""The rates that results come down to: attacked share, attack success, clean accuracy; of an artifact or a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from hardscale.artifacts.manifest import read_manifest
from hardscale.artifacts.schemas import ATTACK, CLEAN, RUNS
from hardscale.artifacts.tables import read_table
from hardscale.ops.outcome import DIFFERS, WITHIN, Finding

Counts = dict[str, tuple[int, int]]
_RUN = ("task", "family", "scale", "seed", "defense", "round", "attack", "position")


FALSE_ALARM_RATE = 0.01


def artifact_rates(folder: Path) -> Counts:
    """Name -> successes and trials of an attack or a model; nothing for other artifacts.

    Raises:
        ArtifactError: the artifact has no manifest.
        DataError: its table cannot be read.
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
        DataError: the table cannot be read.
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


@dataclass(frozen=True)
class Rates:
    """Successes and trials of one rate, expected and found."""

    what: str
    expected: tuple[int, int]
    found: tuple[int, int]

    @property
    def difference(self) -> float | None:
        """Absolute difference of the two rates; None where one has no trials."""
        if not self.expected[1] or not self.found[1]:
            return None
        return abs(self.expected[0] / self.expected[1] - self.found[0] / self.found[1])


def p_value(expected: tuple[int, int], found: tuple[int, int]) -> float:
    """Two-sided p-value of Fisher's exact test that two rates are one; 1 where one has no trials."""
    from scipy.stats import fisher_exact

    (k, n), (l, m) = expected, found  # noqa: E741 - k of n and l of m
    if not n or not m:
        return 1.0
    return float(fisher_exact([[k, n - k], [l, m - l]]).pvalue)


def compare_rates(rates: Sequence[Rates], false_alarm_rate: float = FALSE_ALARM_RATE) -> list[Finding]:
    """A finding for each rate; the chance that any is called drift while all are equal is at most the given one."""
    level = false_alarm_rate / max(len(rates), 1)
    found = []
    for one in rates:
        p = p_value(one.expected, one.found)
        words = [f"{k}/{n}" + (f" = {k / n:.3f}" if n else "") for k, n in (one.expected, one.found)]
        text = f"{words[1]} (p = {p:.2g}, level {level:.2g})"
        found.append(Finding(one.what, DIFFERS if p < level else WITHIN, words[0], text, one.difference))
    return found
