"""How an artifact that was made again differs from the original."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import verify
from hardscale.ops.differences import compare_files


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
    result.notes += [f"setting {line}" for line in _settings(before["spec"], now["spec"])]
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
    """Largest difference of two weights of one name; None where numpy can not read them or shapes differ."""
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


def _settings(before: Any, now: Any, at: str = "") -> list[str]:
    """``settings.n_candidates 8 -> 4`` for every setting that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted({*before, *now})
        return [line for name in names for line in _settings(before.get(name), now.get(name), f"{at}.{name}")]
    return [] if before == now else [f"{at.removeprefix('.')} {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
