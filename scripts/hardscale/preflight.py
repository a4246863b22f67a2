"""Checks before anything runs: every source of data and models must be on disk or reachable."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from hardscale.study import Study, data_root


def problems(study: Study) -> list[str]:
    """One line for each task or model whose source is neither on disk nor reachable."""
    from hardscale.models import check as models
    from hardscale.tasks import check as tasks

    cells = study.cells()
    found = [
        tasks.check_source(name, study.tasks[name], data_root(study)) for name in dict.fromkeys(c.task for c in cells)
    ]
    found += [
        models.check_source(family, scale, study.families[family], data_root(study))
        for family, scale in dict.fromkeys((c.family, c.scale) for c in cells)
    ]
    return [line for line in found if line]


def place_problem(root: Path) -> str | None:
    """Why results can not be written to ``root``; None when they can."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return None
    except OSError as error:
        return _unusable(root, error.strerror or str(error))


def _unusable(root: Path, reason: str) -> str:
    return f"{root}: results can not be written here ({reason}); mend it, or choose a place by --directory"


def check_folder(root: Path) -> None:
    """Stop before anything is looked up where ``root`` or a folder above it is a file."""
    for path in (root, *root.parents):
        if path.exists() and not path.is_dir():
            _stop([_unusable(root, f"{path} is a file")])


def check_sources(study: Study, root: Path) -> None:
    """Stop the workflow with a line for each missing source, or where results can not be written to ``root``."""
    _stop(problems(study) or [line for line in [place_problem(root)] if line])


def _stop(lines: list[str]) -> None:
    if lines:
        print("\n".join(f"error: {line}" for line in lines), file=sys.stderr)
        raise SystemExit(1)
