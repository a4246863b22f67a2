"""What attacks and models left behind, example by example: successes, compute, clean predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hardscale.artifacts.manifest import MANIFEST, open_artifact
from hardscale.artifacts.schemas import ATTACK, CLEAN
from hardscale.artifacts.tables import read_table
from hardscale.errors import DataError
from hardscale.settings.study_attacks import attack_facts

MODEL = ("task", "family", "scale", "seed", "defense", "round")
_ROWS = ["example_id", "successes", "forward_tokens", "backward_tokens"]


@dataclass(frozen=True)
class AttackRows:
    """One attack on one model, example by example.

    Attributes:
        model: task, family, scale, seed, defense and round.
        attack: its name in the study.
        kind: attack kind.
        position: of the attack text.
        gradient: whether candidates were chosen by gradient, where its kind can.
        rows: ``example_id successes forward_tokens backward_tokens``, the last three as lists over iterations.
    """

    model: Mapping[str, Any]
    attack: str
    kind: str
    position: str
    gradient: bool
    rows: pd.DataFrame

    @property
    def is_guided(self) -> bool:
        """Whether it ranks tokens by gradient."""
        return bool(attack_facts(self.kind).ranks) and self.gradient

    @property
    def is_control(self) -> bool:
        """Whether it is such an attack without its gradient."""
        return bool(attack_facts(self.kind).ranks) and not self.gradient

    @property
    def is_blind(self) -> bool:
        """Whether it draws tokens whatever the model says."""
        return attack_facts(self.kind).blind

    @property
    def iterations(self) -> int:
        """Iterations of the example that ran longest."""
        return int(self.rows["successes"].map(len).max()) if len(self.rows) else 0

    def success(self, ids: np.ndarray, iteration: int) -> np.ndarray:
        """Success, ``(ids,)`` booleans, of the texts held after an iteration; nothing succeeds at iteration 0."""
        if iteration == 0:
            return np.zeros(len(ids), dtype=bool)
        lists = self.rows.set_index("example_id").loc[ids, "successes"]
        return matrix(lists, self.iterations)[:, iteration - 1].astype(bool)


@dataclass(frozen=True)
class CleanRows:
    """One model's answers to unattacked validation examples.

    Attributes:
        model: task, family, scale, seed, defense and round.
        correct: example id -> whether it was classified correctly.
    """

    model: Mapping[str, Any]
    correct: pd.Series


def matrix(lists: pd.Series, length: int) -> np.ndarray:
    """Lists as ``(n, length)``; one that ended early (its example was given up or broken) holds its last value."""
    return np.array([[*row, *[row[-1]] * (length - len(row))] for row in lists], dtype=float)


def artifact_folders(places: Iterable[Path]) -> list[Path]:
    """Every artifact folder at or under the given places."""
    return sorted({path.parent for place in places for path in Path(place).rglob(MANIFEST)})


def read_attacks(folders: Iterable[Path]) -> list[AttackRows]:
    """Attack artifacts as published by the workflow; the shards of one attack are joined.

    Raises:
        ArtifactError: a folder is not a finished attack.
        DataError: its table lacks a column, or its manifest a name.
    """
    parts: dict[tuple[Any, ...], list[AttackRows]] = {}
    for folder in sorted(Path(folder) for folder in folders):
        part = _read_attack(folder)
        parts.setdefault((*part.model.values(), part.attack), []).append(part)
    joined = []
    for group in parts.values():
        rows = pd.concat([part.rows for part in group]).sort_values("example_id", ignore_index=True)
        if rows["example_id"].duplicated().any():
            raise DataError(
                f"attack {group[0].attack} on {dict(group[0].model)}: an example is there twice; give each folder once"
            )
        first = group[0]
        joined.append(AttackRows(first.model, first.attack, first.kind, first.position, first.gradient, rows))
    return joined


def read_clean(folders: Iterable[Path]) -> list[CleanRows]:
    """Clean predictions of models; those without any (chat models) are left out.

    Raises:
        ArtifactError: a folder is not a finished model.
        DataError: its manifest lacks a name.
    """
    found = []
    for folder in sorted(Path(folder) for folder in folders):
        facts = open_artifact(folder, "model")["facts"]
        table = read_table(folder / "clean.parquet", CLEAN).to_pandas()
        if len(table):
            table = table.sort_values("example_id").set_index("example_id")
            correct = table["prediction"] == table["label"]
            found.append(CleanRows(_model(folder, facts), correct))
    return found


def _model(folder: Path, names: Mapping[str, Any]) -> dict[str, Any]:
    """The model that a manifest is of or about."""
    try:
        task, family, scale, seed = str(names["cell"]).split("/")
        values = (task, family, scale, int(seed[1:]), names["defense"], int(names["round"]))
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{folder}/manifest.json: names no cell, defense and round ({error}); build it with this version"
        ) from error
    return dict(zip(MODEL, values, strict=True))


def _read_attack(folder: Path) -> AttackRows:
    spec = open_artifact(folder, "attack")["spec"]
    model = _model(folder, spec)
    try:
        settings = spec["settings"]
        name, kind, position = spec["attack"], settings["kind"], settings["position"]
    except KeyError as error:
        raise DataError(
            f"{folder}/manifest.json: not the spec of an attack ({error}); build it with this version"
        ) from error
    rows = read_table(folder / "attack.parquet", ATTACK, columns=_ROWS).to_pandas()
    return AttackRows(model, name, kind, position, bool(settings.get("gradient", True)), rows)
