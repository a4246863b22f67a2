"""Attack success of classifiers against the compute of both kinds of defense: adversarial rounds and embeddings."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from hardscale.analysis.cost import COST
from hardscale.analysis.points import at_headline
from hardscale.figures import data
from hardscale.figures.about import About
from hardscale.figures.axes import log_axis, share_axis, zero_places
from hardscale.figures.chat import Tables, table
from hardscale.figures.frame import Entry, Panels, line_key, varying
from hardscale.figures.series import as_points, draw_seeds, spread_keys
from hardscale.figures.spec import FigureSpec
from hardscale.figures.style import GREY, in_style, message_figure, plain
from hardscale.settings.study_defenses import DEFENSE_KINDS

ABOUT = About(place=140, victims="classifiers", tables=("cost",), only="continuous_classifiers")

#: Perturbations that a defense trains against -> its line and marker.
_LOOKS: dict[str, tuple[Any, str]] = {"discrete": ("-", "o"), "continuous": ((0, (4, 1.5)), "^")}
#: Kind -> its name, line and marker.
_KINDS = {
    kind: (block.label, *_LOOKS[block.trains_on])
    for kind, block in DEFENSE_KINDS.items()
    if block.victims == "classifiers" and block.trains_on
}
_CONVENTION, _EXACT = "by convention", "counted exactly"


@in_style
def draw(
    runs: pd.DataFrame,
    fits: pd.DataFrame,  # noqa: ARG001
    settings: FigureSpec,
    tables: Tables | None = None,
) -> Figure:
    """Headline iteration, compute is the seeds' mean; see workflow/report/joint_defense_compute.rst."""
    rows = at_headline(
        data.without_controls(data.with_round_zero(data.measured(runs)), settings), settings.headline_iteration
    )
    rows = rows[rows["defense_kind"].isin(_KINDS) & rows["defense_flops"].notna()]
    rows = _on_both_kinds(data.without_lone_start(rows))
    if rows.empty:
        return message_figure(
            "No attack has been measured on models of both kinds of defense with known compute: nothing to compare."
        )
    rows = pd.concat(_by_account(rows, table(tables, "cost", COST)), ignore_index=True)
    scales = data.Scales(rows)
    groups = data.panels(rows, "task", "attack", "position", "family", "account")
    keys = [key for key, _ in groups]
    counts = [part.groupby(["scale", "defense", "round"])["asr"].count() for _, part in groups]
    panels = Panels(len(groups), _entries(scales, rows, counts), titles=_titles(keys))
    for ax, (_, part) in zip(panels.axes, groups, strict=True):
        zero = log_axis(ax, part["x"], zero=bool((part["x"] == 0).any()), most=panels.most_ticks)
        share_axis(ax)
        present = scales.present(part)
        for key, beside in zip(present, zero_places(zero, part["x"], len(present)), strict=True):
            mine = data.of_scale(part, key)
            for (_, kind), series in mine.groupby(["defense", "defense_kind"], sort=True):
                _, line, marker = _KINDS[str(kind)]
                points = as_points(series, "x")
                points["x"] = points["x"].where(points["x"] > 0, beside)
                draw_seeds(ax, points, scales.look(key, line=line, marker=marker, band=0.1))
    panels.label(["Defense compute (FLOPs)"] * len(groups), "Attack success rate")
    return panels.figure


def _on_both_kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the attacks that were measured on both kinds of defense of a task."""
    trained = rows[rows["round"] > 0]
    kinds = trained.groupby(["task", "family", "attack", "position"])["defense_kind"].transform("nunique")
    both = trained.loc[kinds > 1, ["task", "family", "attack", "position"]].drop_duplicates()
    return rows.merge(both, "inner", on=["task", "family", "attack", "position"])


def _by_account(rows: pd.DataFrame, cost: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows with ``x``, the compute by convention, and again as counted exactly where that is known of both kinds."""
    keys = ["task", "family", "scale", "seed", "defense", "round"]
    exact = rows.merge(
        cost[[*keys, "defense_flops_exact"]].astype({"seed": "int64", "round": "int64"}), "left", on=keys
    )
    exact["defense_flops"] = exact["defense_flops_exact"].astype(float).where(exact["round"] > 0, 0.0)
    exact = data.without_lone_start(exact[exact["defense_flops"].notna()])
    both = exact.loc[exact["round"] > 0, "defense_kind"].nunique() > 1
    parts = [(_CONVENTION, rows), *([(_EXACT, exact)] if both else [])]
    return [part.assign(account=name, x=data.mean_defense_flops(part)) for name, part in parts]


def _titles(keys: list[tuple[str, ...]]) -> list[list[str]]:
    return [
        [
            data.task_name(task),
            data.attack_name(attack, position),
            plain(family, 16) if varying(keys, 3) else "",
            account if varying(keys, 4) else "",
        ]
        for task, attack, position, family, account in keys
    ]


def _entries(scales: data.Scales, rows: pd.DataFrame, counts: list[pd.Series]) -> list[Entry]:
    entries = [line_key(scales.label(key), scales.color(key)) for key in scales.keys]
    present = [kind for kind in _KINDS if kind in set(rows["defense_kind"])]
    entries += [line_key(_KINDS[kind][0], GREY, _KINDS[kind][1], _KINDS[kind][2]) for kind in present]
    return [*entries, *(entry for entry in spread_keys(counts) if entry[1] != "each seed")]
