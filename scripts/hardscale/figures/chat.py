"""Rows and looks that the figures of chat models share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from hardscale.analysis.points import UNDEFENDED, counted, of_chat
from hardscale.evaluation.replies import LIKELIHOOD
from hardscale.figures import data
from hardscale.figures.frame import Entry, interval_key
from hardscale.figures.series import wilson
from hardscale.figures.style import MARKERS, plain
from hardscale.settings.study_attacks import attack_facts, attack_kinds
from hardscale.settings.study_defenses import DEFENSE_KINDS, defenses_that_train_on

#: Table stem -> rows.
Tables = Mapping[str, pd.DataFrame]
#: One chat model, its seeds together.
MODEL = ["task", "family", "scale", "defense", "round"]
PANEL = ["task", "family", "scale"]

BASE_COLOR = "0.25"
#: Okabe and Ito's colors, then Tol's that are told apart from them.
_COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#44AA99",
    "#AA4499",
)
#: Defenses that attack words in training; the others attack embeddings.
DISCRETE = defenses_that_train_on("discrete")


def _ordered() -> list[str]:
    """Kinds of defense: none, what others trained, then those that train against words, then against embeddings."""
    sorts = [None, "discrete", "continuous"]
    return [UNDEFENDED, *sorted(DEFENSE_KINDS, key=lambda kind: sorts.index(DEFENSE_KINDS[kind].trains_on))]


def table(tables: Tables | None, name: str, schema: pa.Schema) -> pd.DataFrame:
    """A further table of the figure with all columns of its schema; empty where it was not given."""
    found = (tables or {}).get(name)
    if found is None:
        return schema.empty_table().to_pandas()
    return found.reindex(columns=schema.names)


def judged(runs: pd.DataFrame) -> pd.DataFrame:
    """Rates of chat models by the primary judge, which is the first of its task in the file.

    Returns:
        One row a model, attack, position and iteration: columns of :func:`over_seeds` besides columns of RUNS.
    """
    rows = runs[of_chat(runs)]
    primary = rows.groupby("task")["judge"].first()
    return _rates(rows[rows["judge"] == rows["task"].map(primary)])


def readers(runs: pd.DataFrame) -> list[str]:
    """The judges that read replies to every request, in the order of the file: the primary one first."""
    return list(dict.fromkeys(_read_whole(runs)["judge"]))


def by_reader(runs: pd.DataFrame) -> pd.DataFrame:
    """Rates of chat models by every judge of :func:`readers`: rows of :func:`judged`, one a judge, with ``judge``."""
    return _rates(_read_whole(runs), "judge")


def _read_whole(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of judges but those that were asked about some requests only, or that measure the opening aimed at."""
    rows = runs[of_chat(runs)]
    return rows[(rows["n_attacked"] == rows["n_examples"]) & (rows["judge"] != LIKELIHOOD)]


def _rates(rows: pd.DataFrame, *more: str) -> pd.DataFrame:
    keys = [*MODEL, "n_params", "defense_kind", "attack", "attack_kind", "position", "iteration", *more]
    counts = counted(rows).rename(columns={"n_success": "k", "n_attacked": "n"})
    return over_seeds(counts, keys, eps=("eps", "first"), defense_flops=("defense_flops", "mean"))


def over_seeds(rows: pd.DataFrame, keys: list[str], **more: tuple[str, str]) -> pd.DataFrame:
    """Rates of models whose seeds are one point.

    Seeds meet the same behaviors, so their counts together are no larger sample: a lone seed has the interval of its
    rate, several show how far apart they are.

    Args:
        rows: a row a seed: counts ``k`` of ``n``.
        keys: columns that name a model and what was measured of it.
        more: further columns as ``DataFrameGroupBy.agg`` takes them.

    Returns:
        A row for each of ``keys``: mean rate over seeds ``asr``; ``low``, ``high``, the 95 % Wilson interval of a lone
        seed or the smallest and largest rate of several; ``n`` of a seed, at most; ``n_seeds``.
    """
    low, high = wilson(rows["k"], rows["n"])
    found = (
        rows.assign(rate=rows["k"].astype(float) / rows["n"], wilson_low=low, wilson_high=high)
        .groupby(keys, as_index=False)
        .agg(
            **{
                "asr": ("rate", "mean"),
                "n": ("n", "max"),
                "n_seeds": ("rate", "size"),
                "low": ("rate", "min"),
                "high": ("rate", "max"),
                "wilson_low": ("wilson_low", "first"),
                "wilson_high": ("wilson_high", "first"),
                **more,
            }
        )
    )
    alone = found["n_seeds"] == 1
    return found.assign(
        low=found["wilson_low"].where(alone, found["low"]), high=found["wilson_high"].where(alone, found["high"])
    ).drop(columns=["wilson_low", "wilson_high"])


def spread_entries(n_seeds: pd.Series) -> list[Entry]:
    """Legend entries of the lines from ``low`` to ``high``, given the seeds of each point."""
    alone = n_seeds == 1
    if alone.all():
        return [interval_key("95% interval")]
    lone = [interval_key("95% interval (one seed)")] if alone.any() else []
    return [*lone, interval_key("min–max of seeds")]


def last_iterations(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows at the last iteration of each model's attack."""
    if rows.empty:
        return rows
    keys = [*MODEL, "attack", *(["position"] if "position" in rows else []), *(["seed"] if "seed" in rows else [])]
    return rows[rows["iteration"] == rows.groupby(keys)["iteration"].transform("max")]


def collapsed(utility: pd.DataFrame) -> set[tuple[Any, ...]]:
    """Models (MODEL) of which a seed is marked collapsed."""
    broken = utility[utility["collapsed"].astype("boolean").fillna(False).astype(bool)]
    return set(broken[MODEL].itertuples(index=False, name=None))


def panels(rows: pd.DataFrame) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Groups of rows by task, family and scale, small models first."""
    order = rows.groupby(PANEL)["n_params"].max().reset_index().sort_values(["task", "family", "n_params", "scale"])
    keys = list(order[PANEL].itertuples(index=False, name=None))
    return [(key, rows[(rows[PANEL] == list(key)).all(axis=1)]) for key in keys]


def panel_titles(keys: Sequence[tuple[str, ...]], *, always: bool = False) -> list[list[str]]:
    """Parts of titles: the model (with ``always`` even where there is one only), and the task where tasks differ."""
    tasks, models = {key[0] for key in keys}, {key[1:3] for key in keys}
    named = always or len(models) > 1
    return [
        [f"{plain(family, 20)} {plain(scale, 14)}" if named else "", data.task_name(task) if len(tasks) > 1 else ""]
        for task, family, scale in (key[:3] for key in keys)
    ]


class Defenses:
    """Name, color and marker of every defense: the undefended model first, then by kind and name."""

    def __init__(self, rows: pd.DataFrame) -> None:
        found = rows[["defense", "defense_kind", "round"]].drop_duplicates().itertuples(index=False, name=None)
        rank = {kind: i for i, kind in enumerate(_ordered())}
        ordered = sorted(found, key=lambda item: (rank.get(item[1], len(rank)), str(item[0]), item[2]))
        self.keys: list[tuple[str, int]] = [(str(defense), int(number)) for defense, _, number in ordered]
        self.kinds = {(str(defense), int(number)): str(kind) for defense, kind, number in ordered}
        rounds = pd.Series([defense for defense, _ in self.keys], dtype=object).value_counts()
        self._several = set(rounds.index[rounds > 1])
        trained = [key for key in self.keys if key[0] != UNDEFENDED]
        self._place = {key: i for i, key in enumerate(trained)}

    def color(self, key: tuple[str, int]) -> str:
        """Color of a defense."""
        return BASE_COLOR if key not in self._place else _COLORS[self._place[key] % len(_COLORS)]

    def marker(self, key: tuple[str, int]) -> str:
        """Marker of a defense."""
        return MARKERS[0] if key not in self._place else MARKERS[(self._place[key] + 1) % len(MARKERS)]

    def label(self, key: tuple[str, int], broken: bool = False) -> str:
        """Name of a defense; the round is named where there are several."""
        defense, number = key
        name = "base" if defense == UNDEFENDED else plain(defense, 24)
        name += f", round {number}" if defense in self._several else ""
        return f"{name} (collapsed)" if broken else name


def of_defense(rows: pd.DataFrame, key: tuple[str, int]) -> pd.DataFrame:
    """Rows of one defense after one round."""
    return rows[(rows["defense"] == key[0]) & (rows["round"] == key[1])]


def in_embeddings(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of attacks in embedding space."""
    return rows[rows["attack_kind"].isin(attack_kinds(lambda attack: attack.space == "embeddings"))]


def attack_label(rows: pd.DataFrame) -> str:
    """The attack of some rows as it is written in a figure; of one in embedding space whether it is bounded, and how.

    Models that are attacked in the balls of their trainings may have one each: then the smallest and the largest.
    """
    label = data.attack_name(rows["attack"].iloc[0])
    if attack_facts(rows["attack_kind"].iloc[0]).space == "text":
        return label
    radii = sorted(set(rows["eps"].astype(float).fillna(math.inf)))
    ends = [radii[0], radii[-1]] if len(radii) > 1 else radii
    return f"{label} (ε = {'–'.join('∞' if math.isinf(one) else f'{one:g}' for one in ends)})"
