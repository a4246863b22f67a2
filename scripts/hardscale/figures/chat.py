"""Rows and looks that the figures of chat models share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from statsmodels.stats.proportion import proportion_confint

from hardscale.analysis.points import UNDEFENDED, counted, of_chat
from hardscale.evaluation.replies import LIKELIHOOD
from hardscale.figures import data
from hardscale.figures.style import MARKERS, plain

#: Table stem -> rows.
Tables = Mapping[str, pd.DataFrame]
#: One chat model, its seeds pooled.
MODEL = ["task", "family", "scale", "defense", "round"]
PANEL = ["task", "family", "scale"]

BASE_COLOUR = "0.25"
#: Okabe and Ito's colours, then Tol's that are told apart from them.
_COLOURS = (
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
_KINDS = ("none", "external", "r2d2", "c_advul", "c_advipo")
#: Defences that attack words in training; the others attack embeddings.
DISCRETE = ("r2d2", "adversarial_rounds")


def table(tables: Tables | None, name: str, schema: pa.Schema) -> pd.DataFrame:
    """A further table of the figure with all columns of its schema; empty where it was not given."""
    found = (tables or {}).get(name)
    if found is None:
        return schema.empty_table().to_pandas()
    return found.reindex(columns=schema.names)


def judged(runs: pd.DataFrame) -> pd.DataFrame:
    """Rates of chat models by the primary judge, which is the first of its task in the file, seeds pooled.

    Returns:
        One row a model, attack, position and iteration: counts ``k`` of ``n``, ``asr`` and its 95 % Wilson interval
        ``low``, ``high`` besides columns of RUNS.
    """
    rows = runs[of_chat(runs)]
    primary = rows.groupby("task")["judge"].first()
    return _pooled(rows[rows["judge"] == rows["task"].map(primary)])


def readers(runs: pd.DataFrame) -> list[str]:
    """The judges that read replies to every request, in the order of the file: the primary one first."""
    return list(dict.fromkeys(_read_whole(runs)["judge"]))


def by_reader(runs: pd.DataFrame) -> pd.DataFrame:
    """Rates of chat models by every judge of :func:`readers`: rows of :func:`judged`, one a judge, with ``judge``."""
    return _pooled(_read_whole(runs), "judge")


def _read_whole(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of judges but those that were asked about some requests only, or that measure the opening aimed at."""
    rows = runs[of_chat(runs)]
    return rows[(rows["n_attacked"] == rows["n_examples"]) & (rows["judge"] != LIKELIHOOD)]


def _pooled(rows: pd.DataFrame, *more: str) -> pd.DataFrame:
    keys = [*MODEL, "n_params", "defense_kind", "attack", "attack_kind", "position", "iteration", *more]
    pooled = (
        counted(rows)
        .groupby(keys, as_index=False)
        .agg(
            k=("n_success", "sum"),
            n=("n_attacked", "sum"),
            eps=("eps", "first"),
            defense_flops=("defense_flops", "mean"),
        )
    )
    return with_rates(pooled)


def with_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of counts ``k`` of ``n`` with ``asr`` and its Wilson interval."""
    k, n = rows["k"].to_numpy(float), rows["n"].to_numpy(float)
    low, high = proportion_confint(k, n, method="wilson") if len(rows) else (k, n)
    return rows.assign(asr=k / n if len(rows) else k, low=low, high=high)


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
    """Name, colour and marker of every defence: the undefended model first, then by kind and name."""

    def __init__(self, rows: pd.DataFrame) -> None:
        found = rows[["defense", "defense_kind", "round"]].drop_duplicates().itertuples(index=False, name=None)
        rank = {kind: i for i, kind in enumerate(_KINDS)}
        ordered = sorted(found, key=lambda item: (rank.get(item[1], len(rank)), str(item[0]), item[2]))
        self.keys: list[tuple[str, int]] = [(str(defense), int(number)) for defense, _, number in ordered]
        self.kinds = {(str(defense), int(number)): str(kind) for defense, kind, number in ordered}
        rounds = pd.Series([defense for defense, _ in self.keys], dtype=object).value_counts()
        self._several = set(rounds.index[rounds > 1])
        trained = [key for key in self.keys if key[0] != UNDEFENDED]
        self._place = {key: i for i, key in enumerate(trained)}

    def colour(self, key: tuple[str, int]) -> str:
        """Colour of a defence."""
        return BASE_COLOUR if key not in self._place else _COLOURS[self._place[key] % len(_COLOURS)]

    def marker(self, key: tuple[str, int]) -> str:
        """Marker of a defence."""
        return MARKERS[0] if key not in self._place else MARKERS[(self._place[key] + 1) % len(MARKERS)]

    def label(self, key: tuple[str, int], broken: bool = False) -> str:
        """Name of a defence; the round is named where there are several."""
        defense, number = key
        name = "base" if defense == UNDEFENDED else plain(defense, 24)
        name += f", round {number}" if defense in self._several else ""
        return f"{name} (collapsed)" if broken else name


def of_defense(rows: pd.DataFrame, key: tuple[str, int]) -> pd.DataFrame:
    """Rows of one defence after one round."""
    return rows[(rows["defense"] == key[0]) & (rows["round"] == key[1])]


def attack_label(rows: pd.DataFrame) -> str:
    """The attack of some rows as it is written in a figure; of one in embedding space whether it is bounded, and how.

    Models that are attacked in the balls of their trainings may have one each: then the smallest and the largest.
    """
    label = data.attack_name(rows["attack"].iloc[0])
    if rows["attack_kind"].iloc[0] != "embedding":
        return label
    radii = sorted(set(rows["eps"].astype(float).fillna(math.inf)))
    ends = [radii[0], radii[-1]] if len(radii) > 1 else radii
    return f"{label} (ε = {'–'.join('∞' if math.isinf(one) else f'{one:g}' for one in ends)})"
