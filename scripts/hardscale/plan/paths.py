"""Names of lineages and shards, and the folders of a study relative to the working directory."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import MANIFEST
from hardscale.settings.study import UNDEFENDED, Cell

RESULTS = Path("results")
_PART = re.compile(r"^(?P<attack>.+?)(?:\.(?P<index>\d+)of(?P<count>\d+))?$")


@dataclass(frozen=True, order=True)
class Lineage:
    """A cell under one defense: the chain of models that its rounds make. ``defense='none'`` is the undefended cell."""

    cell: Cell
    defense: str

    @property
    def key(self) -> str:
        """``task/family/scale/sSEED/defense``."""
        return f"{self.cell.key}/{self.defense}"

    @classmethod
    @functools.cache  # a plan parses each key several times
    def parse(cls, key: str) -> Lineage:
        """The lineage of a key."""
        cell, _, defense = key.rpartition("/")
        return cls(Cell.parse(cell), defense)


def undefended(cell: Cell) -> Lineage:
    """The lineage that holds the finetuned, undefended model of a cell as its round 0."""
    return Lineage(cell, UNDEFENDED)


def part_name(attack: str, index: int = 1, count: int = 1) -> str:
    """Folder of one shard of an attack: the attack's name alone when there is one shard."""
    return attack if count == 1 else f"{attack}.{index}of{count}"


def parse_part(part: str) -> tuple[str, int, int]:
    """Attack name, shard index (1-based) and shard count of a part folder."""
    match = _PART.match(part)
    if match is None:
        raise ValueError(f"not an attack folder: {part!r}")
    return match["attack"], int(match["index"] or 1), int(match["count"] or 1)


def manifest(folder: Path) -> str:
    """The file that stands for an artifact folder in the DAG: it is written last."""
    return f"{folder}/{MANIFEST}"


def manifests(folders: Iterable[Path]) -> list[str]:
    """:func:`manifest` of each folder."""
    return [manifest(folder) for folder in folders]


@dataclass(frozen=True)
class StudyPaths:
    """Folders of one study under ``results/<study>/``, by the templates of :mod:`hardscale.artifacts.paths`."""

    study: str

    @functools.cached_property
    def root(self) -> Path:
        """``results/<study>``."""
        return RESULTS / self.study

    def task(self, name: str) -> Path:
        """A prepared task."""
        return self.root / paths.fill(paths.TASK, task=name)

    def base(self, family: str, scale: str, pretrained: bool = False) -> Path:
        """A model before finetuning; ``pretrained`` is the one that the pretrain rule made of it."""
        return self.root / paths.fill(paths.PRETRAINED if pretrained else paths.BASE, family=family, scale=scale)

    def model(self, lineage: str, number: int) -> Path:
        """A model after finetuning (round 0) or after a round of a defense."""
        return paths.model(self.root, lineage, number)

    def attack(self, lineage: str, number: int, part: str) -> Path:
        """The rows of an attack on a model, whole or one shard."""
        return self.root / paths.fill(paths.ATTACK, lineage=lineage, round=paths.round_number(number), part=part)

    def measure(self, template: str, lineage: str, number: int) -> Path:
        """A measure of a chat model besides attacks: by the template of its artifact."""
        return self.root / paths.fill(template, lineage=lineage, round=paths.round_number(number))

    def table(self, name: str) -> Path:
        """A table of the study, e.g. ``runs.parquet``."""
        return paths.table(self.root, name)

    def figure(self, name: str, suffix: str) -> Path:
        """A figure of the study, e.g. ``asr_by_round`` as ``png``."""
        return self.root / paths.fill(paths.FIGURE, figure=name, suffix=suffix)
