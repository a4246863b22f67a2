"""How two parquet tables differ in content: which columns and rows, and by how much at most.

Equal content in other bytes (another version of the parquet writer) is no difference. Rows are matched by the columns
that name them; where these do not tell all rows apart, by position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from hardscale.artifacts.manifest import verify
from hardscale.artifacts.tables import read_table
from hardscale.untrusted.naming import brief

#: Numbers that name a row; texts always do.
_NAMING = ("seed", "round", "iteration", "example_id", "step", "target_asr")
_SHOWN = 3


@dataclass
class TableDifference:
    """Differences of a found table from an expected one.

    Attributes:
        columns: that differ in matched rows, come or go.
        rows: names of the rows that differ, come or go.
        sizes: by column, the largest difference of two numbers in matched rows; infinite where one is no number.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.columns or self.rows)

    @property
    def max_difference(self) -> float | None:
        """The largest of all; columns have different units."""
        return max(self.sizes.values(), default=None)

    def describe(self) -> str:
        """One line: how many rows, which columns by how much, the first rows by name."""
        parts = [f"{len(self.rows)} row(s)"] if self.rows else []
        if self.columns:
            sizes = [f"{name} by {self.sizes[name]:.4g}" if name in self.sizes else name for name in self.columns]
            parts.append(f"in {', '.join(sizes)}")
        if self.rows:
            more = f" and {len(self.rows) - _SHOWN} more" if len(self.rows) > _SHOWN else ""
            parts.append(f"at {'; '.join(self.rows[:_SHOWN])}{more}")
        return " ".join(parts) or "equal content"


def compare_files(expected: Path, found: Path) -> TableDifference:
    """Differences of two parquet files.

    Raises:
        DataError: one is not a readable parquet file.
    """
    return compare_tables(read_table(expected), read_table(found))


def compare_tables(expected: pa.Table, found: pa.Table) -> TableDifference:
    """Differences of two tables; metadata and the order of columns do not count."""
    result = TableDifference()
    shared = [name for name in expected.column_names if name in found.column_names]
    result.columns += [f"{name} (gone)" for name in expected.column_names if name not in shared]
    result.columns += [f"{name} (new)" for name in found.column_names if name not in shared]
    old, new = expected.select(shared).to_pylist(), found.select(shared).to_pylist()
    keys = _naming_columns(expected.select(shared), old, new)
    pairs = _matched(old, new, keys)
    changed: dict[str, None] = {}
    for name, before, now in pairs:
        if before is None or now is None:
            result.rows.append(f"{name} ({'new' if before is None else 'gone'})")
            continue
        differing = [column for column in shared if not _equal(before[column], now[column])]
        if differing:
            result.rows.append(name)
        for column in differing:
            changed[column] = None
            size = _distance(before[column], now[column])
            if size is not None:
                result.sizes[column] = max(size, result.sizes.get(column, 0.0))
    result.columns = [*changed, *result.columns]
    return result


def _naming_columns(table: pa.Table, old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[str]:
    """Columns that tell all rows of either table apart; none if there are no such columns."""
    kinds = [(column.name, column.type) for column in table.schema]
    keys = [name for name, kind in kinds if name in _NAMING or _is_text(kind)]
    # The fewest that do: a text that is a result (adversarial_text) is then compared and not taken for a name.
    for choice in (["example_id"], ["round", "step"], [name for name in keys if name in _NAMING], keys):
        if choice and set(choice) <= set(keys) and all(_tells_apart(choice, rows) for rows in (old, new)):
            return choice
    return []


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _tells_apart(keys: list[str], rows: Sequence[dict[str, Any]]) -> bool:
    return len({_key(row, keys) for row in rows}) == len(rows)


def _matched(
    old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], keys: list[str]
) -> list[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]:
    if not keys:
        longest = range(max(len(old), len(new)))
        return [(f"row {i}", old[i] if i < len(old) else None, new[i] if i < len(new) else None) for i in longest]
    before, now = ({_key(row, keys): row for row in rows} for rows in (old, new))
    varying = [k for k in keys if len({repr(row[k]) for row in [*old, *new]}) > 1] or keys[:1]
    names = {key: " ".join(f"{k}={_shown(row[k])}" for k in varying) for key, row in {**before, **now}.items()}
    return [(name, before.get(key), now.get(key)) for key, name in names.items()]


def _shown(value: Any) -> Any:
    """A value in the name of a row; replies and requests tell rows apart too, and are not for a terminal."""
    return brief(value).strip("'") if isinstance(value, str) else value


def _key(row: dict[str, Any], keys: list[str]) -> tuple[str, ...]:
    return tuple(repr(row[key]) for key in keys)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def _distance(a: Any, b: Any) -> float | None:
    """Largest difference of two differing values; None where they are no numbers."""
    if isinstance(a, list) and isinstance(b, list):
        sizes = [_distance(x, y) for x, y in zip(a, b, strict=False) if not _equal(x, y)]
        known = [size for size in sizes if size is not None]
        return max(known) if known else None
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b)]
    if all(numbers):
        size = abs(a - b)
        return math.inf if math.isnan(size) else float(size)
    return math.inf if any(numbers) else None


@dataclass
class ArtifactDifference:
    """What differs. ``notes`` are differences that are no drift in themselves: other settings with the same result."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    max_difference: float | None = None

    def __bool__(self) -> bool:
        return bool(self.lines)

    def grow(self, size: float | None) -> None:
        """Take a difference of two numbers into account."""
        if size is not None:
            self.max_difference = max(size, self.max_difference or 0.0)


def compare_artifacts(original: Path, before: dict[str, Any], remade: Path) -> ArtifactDifference:
    """Compare files by their hashes, and say of those that differ what differs in them.

    Args:
        original: folder of the original.
        before: its manifest as it was when the artifact was chosen.
        remade: folder of the artifact made again.

    Raises:
        ArtifactError: ``remade`` is not whole.
    """
    now = verify(remade)
    result = ArtifactDifference()
    for name in sorted({*before["files"], *now["files"]}):
        if name not in now["files"] or name not in before["files"]:
            result.lines.append(f"{name} is {'new' if name not in before['files'] else 'gone'}")
        elif before["files"][name]["sha256"] != now["files"][name]["sha256"]:
            _file_difference(original / name, remade / name, name, result)
    for name in sorted({*before["facts"], *now["facts"]}):
        old, new = before["facts"].get(name), now["facts"].get(name)
        if old != new:
            result.lines.append(f"{name} {_short(old)} -> {_short(new)}")
            if all(isinstance(value, int | float) for value in (old, new)):
                result.grow(float(abs(old - new)))
    result.notes += [f"setting {line}" for line in setting_changes(before["spec"], now["spec"])]
    return result


def _file_difference(original: Path, remade: Path, name: str, result: ArtifactDifference) -> None:
    if name.endswith(".parquet"):
        difference = compare_files(original, remade)
        if difference:
            result.lines.append(f"{name}: {difference.describe()}")
            result.grow(difference.max_difference)
        else:
            result.notes.append(f"{name}: equal content in other bytes")
        return
    size = _tensor_difference(original, remade) if name.endswith(".safetensors") else None
    result.lines.append(f"{name}: bytes differ" if size is None else f"{name}: largest difference {size:.6g}")
    result.grow(size)


def _tensor_difference(original: Path, remade: Path) -> float | None:
    """Largest difference of two weights of one name; None where numpy cannot read them or shapes differ."""
    import numpy as np
    from safetensors import safe_open

    largest = 0.0
    try:
        with safe_open(original, framework="np") as old, safe_open(remade, framework="np") as new:
            if set(old.keys()) != set(new.keys()):
                return None
            for name in old.keys():  # noqa: SIM118 - not a dict
                size = np.abs(old.get_tensor(name).astype(np.float64) - new.get_tensor(name).astype(np.float64))
                largest = max(largest, float(size.max(initial=0.0)))
    except (OSError, TypeError, ValueError):
        return None
    return math.inf if math.isnan(largest) else largest


def setting_changes(before: Any, now: Any, at: str = "") -> list[str]:
    """``settings.n_candidates 8 -> 4`` for every setting that differs; ``at`` is the place of both in the whole."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted({*before, *now})
        return [line for name in names for line in setting_changes(before.get(name), now.get(name), f"{at}.{name}")]
    return [] if before == now else [f"{at.removeprefix('.')} {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
