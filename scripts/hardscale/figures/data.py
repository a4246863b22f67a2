"""Rows that the figures are drawn from: which ones, in what order, under which names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hardscale.analysis.points import UNDEFENDED, usable
from hardscale.analysis.points import with_round_zero as add_round_zero
from hardscale.figures.axes import count_label
from hardscale.figures.series import Look
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import MARKERS, plain, scale_colors
from hardscale.settings.study_attacks import attack_facts

#: Above this number of scales in a family a panel is crowded.
CROWD = 6
#: One model: everything that is measured on it shares these.
CELL = ["task", "family", "scale", "seed", "defense", "round"]
#: One curve over iterations.
CURVE = [*CELL, "attack", "position", "attack_seed"]

_TASKS = {
    "imdb": "IMDB",
    "spam": "Spam",
    "password_match": "PasswordMatch",
    "word_length": "WordLength",
    "helpful": "Helpful",
    "harmless": "Harmless",
}
#: End of the name of an attack's control.
_CONTROL = "-control"


def task_name(task: object) -> str:
    """A task as it is written in a figure."""
    return _TASKS.get(str(task)) or plain(task, 28)


def attack_name(attack: object, position: object = "suffix") -> str:
    """An attack as it is written in a figure; the position is named unless it is the suffix."""
    name = _label(str(attack)) or plain(attack, 28)
    return name if position == "suffix" else f"{name}, {plain(position, 12)}"


def _label(attack: str) -> str:
    """The label of the kind that an attack is called like; of its control what that lacks; else empty."""
    facts = attack_facts(attack.removesuffix(_CONTROL).replace("-", "_"))
    if not attack.endswith(_CONTROL):
        return facts.label
    return f"{facts.label} without gradient" if facts.ranks else ""


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows with an attack success rate, in one order whatever that of the file is.

    Unknown rates (nothing attacked, stopped early) are left out.
    """
    rows = usable(runs)
    rows["attack_seed"] = rows["attack_seed"].astype(float).fillna(-1)
    return rows.sort_values([*CURVE, "iteration"], kind="stable", ignore_index=True)


def models(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a model with a clean accuracy, in one order; which attack the row was of is forgotten."""
    rows = runs[runs["clean_accuracy"].notna()].drop_duplicates(CELL).assign(attack="", position="")
    return rows.sort_values(CELL, kind="stable", ignore_index=True)


def undefended(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of the finetuned, undefended models."""
    return runs[(runs["defense"] == UNDEFENDED) & (runs["round"] == 0)]


def with_round_zero(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of every defense, with the undefended model of the same cell, at 0 defense FLOPs, as its round 0."""
    rows = add_round_zero(runs)
    rows = rows[rows["defense"] != UNDEFENDED]
    return rows.assign(defense_flops=rows["defense_flops"].where(rows["round"] > 0, 0.0))


def without_lone_start(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the panels (task, family, defense, attack, position) in which only round 0 was measured."""
    panel = [c for c in ("task", "family", "defense", "attack", "position") if c in rows]
    return rows[rows.groupby(panel)["round"].transform("max") > 0] if len(rows) else rows


def without_controls(rows: pd.DataFrame, settings: FigureSpec) -> pd.DataFrame:
    """Without the attacks that are the no-gradient control of another one."""
    marked = mark_controls(rows, settings)
    return rows[~marked["control"].to_numpy(bool)]


def mean_defense_flops(rows: pd.DataFrame) -> pd.Series:
    """Defense FLOPs of every row's (task, family, scale, defense, round), the mean over seeds."""
    return rows.groupby(["task", "family", "scale", "defense", "round"])["defense_flops"].transform("mean")


def mark_controls(rows: pd.DataFrame, settings: FigureSpec) -> pd.DataFrame:
    """Add ``shown_with``, the attack in whose panel a row belongs, and ``control``, whether it is its control."""
    names = set(rows["attack"].unique())
    parents = {name: settings.control_of(name, names) for name in names}
    shown = rows["attack"].map(lambda name: parents[name] or name).astype(object)
    return rows.assign(shown_with=shown, control=[parents[name] is not None for name in rows["attack"]])


def ordered_tasks(rows: pd.DataFrame) -> list[str]:
    """Tasks: the paper's in its order, then others by name."""
    known = list(_TASKS)
    return sorted(rows["task"].unique(), key=lambda t: (known.index(t) if t in known else len(known), str(t)))


def ordered_attacks(rows: pd.DataFrame, column: str = "attack") -> list[tuple[str, str]]:
    """Pairs of attack and position: by kind (gradient attacks first), then by name."""
    pairs = rows[[column, "position", "attack_kind"]].drop_duplicates([column, "position"])
    found = [(attack_facts(kind).place, str(a), str(p)) for a, p, kind in pairs.itertuples(index=False, name=None)]
    return [(attack, position) for _, attack, position in sorted(found)]


def panels(rows: pd.DataFrame, *columns: str) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """Groups of rows by these columns, tasks and attacks in the order of the figures, with their values."""
    order: dict[str, list[str]] = {"task": ordered_tasks(rows)}
    for column in ("attack", "shown_with"):
        if column in columns:
            order[column] = list(dict.fromkeys(attack for attack, _ in ordered_attacks(rows, column)))
    groups = [(tuple(map(str, key)), part) for key, part in rows.groupby(list(columns), sort=True)]

    def place(item: tuple[tuple[str, ...], pd.DataFrame]) -> tuple[object, ...]:
        pairs = zip(columns, item[0], strict=True)
        return tuple((order[c].index(v) if c in order else 0, v) for c, v in pairs)

    return sorted(groups, key=place)


def defended_titles(keys: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Parts of the titles of panels by task, attack, position, defense and family; the last two where they differ."""
    several = [len({key[i] for key in keys}) > 1 for i in range(5)]
    return [
        [
            task_name(task),
            attack_name(attack, position),
            plain(family, 16) if several[4] else "",
            plain(defense, 28) if several[3] else "",
        ]
        for task, attack, position, defense, family in keys
    ]


class Scales:
    """Color, marker and name of every (family, scale), by number of parameters within a family."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.keys: list[tuple[str, str]] = []
        self.crowded = bool(rows.groupby("family")["scale"].nunique().max() > CROWD)
        self._looks: dict[tuple[str, str], tuple[object, str, str]] = {}
        sizes = rows.groupby(["family", "scale"], sort=True)["n_params"].max().reset_index()
        n_families = sizes["family"].nunique()
        for family, part in sizes.sort_values(["family", "n_params", "scale"]).groupby("family", sort=True):
            colors = scale_colors(str(family), len(part))
            for i, (scale, n) in enumerate(zip(part["scale"], part["n_params"], strict=True)):
                key = (str(family), str(scale))
                prefix = f"{plain(family, 12)} " if n_families > 1 else ""
                same = str(scale).lower() == count_label(float(n)).lower()
                label = f"{prefix}{plain(scale, 16)}" + ("" if same else f" ({count_label(float(n))})")
                self.keys.append(key)
                self._looks[key] = (colors[i], MARKERS[i % len(MARKERS)], label)

    def present(self, rows: pd.DataFrame) -> list[tuple[str, str]]:
        """Keys that have rows, in order."""
        there = set(zip(rows["family"], rows["scale"], strict=True))
        return [key for key in self.keys if key in there]

    def color(self, key: tuple[str, str]) -> object:
        """Color of a scale."""
        return self._looks[key][0]

    def marker(self, key: tuple[str, str]) -> str:
        """Marker of a scale."""
        return self._looks[key][1]

    def look(self, key: tuple[str, str], **changes: Any) -> Look:
        """How a scale's series is drawn; smaller and fainter where there are many scales."""
        crowd: dict[str, Any] = {"size": 2.3, "band": 0.07} if self.crowded else {}
        return Look(self.color(key), **({"marker": self.marker(key)} | crowd | changes))

    def label(self, key: tuple[str, str]) -> str:
        """Name of a scale with its number of parameters."""
        return self._looks[key][2]


def of_scale(rows: pd.DataFrame, key: tuple[str, str]) -> pd.DataFrame:
    """Rows of one (family, scale)."""
    return rows[(rows["family"] == key[0]) & (rows["scale"] == key[1])]


def thin(iterations: Sequence[int], most: int = 14) -> list[int]:
    """At most ``most`` of the iterations, geometrically spaced, first and last kept."""
    values = sorted(set(iterations))
    if len(values) <= most:
        return values
    wanted = np.geomspace(values[0], values[-1], most)
    return sorted({min(values, key=lambda v: (abs(v - w), v)) for w in wanted})
