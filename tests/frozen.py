"""What studies computed when it was last meant to change: digests of their tables, attack rows and model weights.

Kept in ``tests/data/frozen.json`` for one maker's processors and one set of versions, where a study computes the
same bytes. A change of what is computed, on purpose, is recorded by running the tests with ``HARDSCALE_FREEZE=1``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from pathlib import Path

import pytest

from hardscale.runtime.instruction_set import why_not

FILE = Path(__file__).parent / "data" / "frozen.json"
_KEPT = ("tables/*.parquet", "attacks/**/attack.parquet", "models/**/*.safetensors", "models/**/*.parquet")
_TIMED = {"timing.parquet"}


def conditions() -> dict[str, str]:
    """What the bytes depend on besides the study and the code."""
    found = re.search(r"^vendor_id\s*:\s*(\S+)", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    versions = {
        name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "scipy", "torch", "transformers")
    }
    return {"maker": found[1] if found else "", **versions}


def digests(results: Path) -> dict[str, str]:
    """First digits of sha256 of every file that a study computes, by its path below the study's folder."""
    files = sorted({path for pattern in _KEPT for path in results.glob(pattern) if path.name not in _TIMED})
    return {path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files}


def assert_frozen(results: Path) -> None:
    """Compare a finished study with what is recorded of it; skip where its bytes are others' for a known reason."""
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("HARDSCALE_FREEZE"):
        recorded[results.name] = {"conditions": conditions(), "digests": digests(results)}
        FILE.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    kept = recorded[results.name]
    if why_not() or kept["conditions"] != conditions():
        pytest.skip(f"recorded with {kept['conditions']}, here {conditions()}")
    assert digests(results) == kept["digests"]
