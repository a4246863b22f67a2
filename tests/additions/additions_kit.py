"""One more of a thing, added as CONTRIBUTING says: the files of ``tests/data/additions`` and no others.

Each folder there mirrors the repository and holds what one addition adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from study_runs import ROOT, SOURCES, StudyRun

ADDITIONS = ROOT / "tests" / "data" / "additions"
#: The smallest study that has all of them: one cell of the added family and task, trained for a moment, one attack.
STUDY = {
    "name": "added",
    "tasks": {
        "alphabet_order": {
            "n_train": 64,
            "n_validation": 24,
            "words": {"source": "letters", "min_length": 3, "max_length": 6, "n_words": None},
        }
    },
    **yaml.safe_load((ADDITIONS / "family" / "family.yaml").read_text(encoding="utf-8")),
    "grid": [{"tasks": ["alphabet_order"], "families": ["narrow"], "seeds": [0]}],
    "finetune": {"steps": 2, "batch_size": 8, "n_clean": 24},
    "attacks": {"random-token": {"kind": "random_token", "n_iterations": 2}},
    "evaluate": [{"attacks": ["random-token"], "defenses": ["none"], "n_examples": 24}],
}


def files_of(addition: str) -> set[str]:
    """Paths, in the repository, of the files of an addition."""
    folder = ADDITIONS / addition
    return {str(path.relative_to(folder)) for path in folder.rglob("*.*") if "__pycache__" not in path.parts}


@dataclass(frozen=True)
class Checkout:
    """A copy of the sources with additions in it, and the study that was run from it."""

    folder: Path
    run: StudyRun

    def changed(self) -> set[str]:
        """Files of the sources that the repository lacks, or has with other bytes."""
        found = set()
        for name in (*SOURCES, "docs"):
            place = self.folder / name
            for path in place.rglob("*") if place.is_dir() else [place]:
                name = str(path.relative_to(self.folder))
                if path.is_file() and "__pycache__" not in path.parts:
                    original = ROOT / name
                    if not original.is_file() or original.read_bytes() != path.read_bytes():
                        found.add(name)
        return found
