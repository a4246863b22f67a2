"""Where every artifact of a study lies, relative to the working directory. Nothing else spells these paths."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST
from hardscale.artifacts.rounds_plan import round_name
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
    """Folders of one study under ``results/<study>/``."""

    study: str

    @functools.cached_property
    def root(self) -> Path:
        """``results/<study>``."""
        return RESULTS / self.study

    def task(self, name: str) -> Path:
        """A prepared task."""
        return self.root / "tasks" / name

    def base(self, family: str, scale: str, pretrained: bool = False) -> Path:
        """A model before finetuning; ``pretrained`` is the one that the pretrain rule made of it."""
        return self.root / ("pretrained" if pretrained else "base") / family / scale

    def model(self, lineage: str, number: int) -> Path:
        """A model after finetuning (round 0) or after a round of a defense."""
        return self.root.joinpath("models", lineage, round_name(number))

    def attack(self, lineage: str, number: int, part: str) -> Path:
        """The rows of an attack on a model, whole or one shard."""
        return self.root.joinpath("attacks", lineage, round_name(number), part)

    def utility(self, lineage: str, number: int) -> Path:
        """What a chat model is good for besides being robust."""
        return self.root / "utility" / lineage / round_name(number)

    def measure(self, what: str, lineage: str, number: int) -> Path:
        """Another measure of a chat model, with a job of its own: ``lm_eval`` or ``mt_bench``."""
        return self.root / what / lineage / round_name(number)

    def table(self, name: str) -> Path:
        """A table of the study, e.g. ``runs.parquet``."""
        return self.root / "tables" / name

    def figure(self, name: str) -> Path:
        """A figure of the study, e.g. ``asr_by_round.png``."""
        return self.root / "figures" / name
