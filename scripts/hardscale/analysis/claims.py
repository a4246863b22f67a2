"""The statements a study is asked to support, each with an estimate, an interval and a verdict.

``holds`` says that the 95 % interval lies wholly on the stated side of 0:

========================  ==========================================================================  ====
claim                     estimate                                                                    side
========================  ==========================================================================  ====
gradient_helps            asr of GCG minus its no-gradient control, same examples, last common         > 0
                          iteration
gcg_beats_random_token    asr of GCG minus RandomToken, same examples, equal FLOPs by convention       > 0
defense_lowers_asr        asr after the last round minus round 0, last common iteration                < 0
defense_costs_accuracy    clean accuracy after the last round minus round 0                            < 0
larger_is_more_robust     slope of log10 odds of asr over log10 parameters ('binomial')                < 0
========================  ==========================================================================  ====
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hardscale.analysis import fits_binomial
from hardscale.analysis.intervals import bootstrap_seeds_examples, independent_difference, paired_difference
from hardscale.analysis.points import UNDEFENDED, at_headline, of_chat, usable, with_round_zero
from hardscale.artifacts.manifest import MANIFEST, open_artifact
from hardscale.artifacts.schemas import ATTACK
from hardscale.artifacts.tables import read_table
from hardscale.errors import DataError
from hardscale.seeds import derive_seed

_str, _f64, _i64 = pa.string(), pa.float64(), pa.int64()
#: Columns of tables/claims.*; ``seed`` is null where seeds are pooled, ``scale`` where scales are compared.
CLAIMS = pa.schema(
    [
        *((name, _str) for name in ("claim", "task", "family", "scale")),
        ("seed", _i64),
        *((name, _str) for name in ("defense", "attack", "other")),
        *((name, _f64) for name in ("estimate", "ci_low", "ci_high")),
        ("n", _i64),
        ("holds", pa.bool_()),
        ("round", _i64),
        ("position", _str),
    ]
)
_MODEL = ("task", "family", "scale", "seed", "defense", "round")
_ROWS = ["example_id", "successes", "forward_tokens", "backward_tokens"]
_SEEDS_TO_POOL = 3


@dataclass(frozen=True)
class AttackRows:
    """One attack on one model, example by example.

    Attributes:
        model: task, family, scale, seed, defense and round.
        attack: its name in the study.
        kind: attack kind.
        position: of the attack text.
        gradient: whether candidates were chosen by gradient (GCG).
        rows: ``example_id successes forward_tokens backward_tokens``, the last three as lists over iterations.
    """

    model: Mapping[str, Any]
    attack: str
    kind: str
    position: str
    gradient: bool
    rows: pd.DataFrame


def claims(
    runs: pd.DataFrame, attacks: Iterable[AttackRows] = (), headline: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Every claim that the tables can be asked of classifiers; columns CLAIMS.

    Args:
        runs: rows of the runs schema.
        attacks: per-example rows, for the two paired claims; without them those are left out.
        headline: entry -> iteration of the size line (:func:`hardscale.analysis.points.at_headline`).
    """
    frame = with_round_zero(usable(runs))
    # An attack on a chat model counts as a success that the target is continued word by word, which no judge has read.
    chat_tasks = set(runs.loc[of_chat(runs), "task"])
    per_example = [attack for attack in attacks if attack.model["task"] not in chat_tasks]
    found = [
        *_paired_claims("gradient_helps", per_example, _is_gcg, _is_control, _last_common),
        *_paired_claims("gcg_beats_random_token", per_example, _is_gcg, _is_random, _equal_compute),
        *_defense_claims(frame),
        *_size_claims(frame, headline or {}),
    ]
    table = pd.DataFrame(found, columns=CLAIMS.names)
    table[["seed", "round", "n"]] = table[["seed", "round", "n"]].astype("Int64")
    return table


def attack_folders(places: Iterable[Path]) -> list[Path]:
    """Every artefact folder at or under the given places."""
    return sorted({path.parent for place in places for path in Path(place).rglob(MANIFEST)})


def read_attacks(folders: Iterable[Path]) -> list[AttackRows]:
    """Attack artefacts as published by the workflow; the shards of one attack are joined.

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


def _read_attack(folder: Path) -> AttackRows:
    spec = open_artifact(folder, "attack")["spec"]
    try:
        task, family, scale, seed = str(spec["cell"]).split("/")
        settings = spec["settings"]
        model = dict(
            zip(_MODEL, (task, family, scale, int(seed[1:]), spec["defense"], int(spec["round"])), strict=True)
        )
        name, kind, position = spec["attack"], settings["kind"], settings["position"]
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{folder}/manifest.json: not the spec of an attack ({error}); build it with this version"
        ) from error
    rows = read_table(folder / "attack.parquet", ATTACK, columns=_ROWS).to_pandas()
    return AttackRows(model, name, kind, position, bool(settings.get("gradient", True)), rows)


def _is_gcg(attack: AttackRows) -> bool:
    return attack.kind == "gcg" and attack.gradient


def _is_control(attack: AttackRows) -> bool:
    return attack.kind == "gcg" and not attack.gradient


def _is_random(attack: AttackRows) -> bool:
    return attack.kind == "random_token"


def _last_common(first: pd.DataFrame, second: pd.DataFrame) -> tuple[int, int]:
    """The last iteration (1-based) that both attacks ran."""
    last = min(_iterations(first), _iterations(second))
    return last, last


def _equal_compute(first: pd.DataFrame, second: pd.DataFrame) -> tuple[int, int]:
    """For each attack the last iteration within the compute that both spent; 0 when its first is beyond.

    Compute is the mean over examples of ``forward + 2 backward`` tokens: both attacks are on one model, so the 2N of
    the convention cancels.
    """
    spent = [_mean_compute(first), _mean_compute(second)]
    budget = min(curve[-1] for curve in spent)
    within = [int(np.searchsorted(curve, budget * (1 + 1e-9), side="right")) for curve in spent]
    return within[0], within[1]


def _mean_compute(rows: pd.DataFrame) -> np.ndarray:
    length = _iterations(rows)
    forward, backward = (_matrix(rows[name], length) for name in ("forward_tokens", "backward_tokens"))
    return (forward + 2 * backward).mean(axis=0)


def _iterations(rows: pd.DataFrame) -> int:
    return int(rows["successes"].map(len).max())


def _matrix(lists: pd.Series, length: int) -> np.ndarray:
    """Lists as ``(n, length)``; one that ended early (its example was given up or broken) holds its last value."""
    return np.array([[*row, *[row[-1]] * (length - len(row))] for row in lists], dtype=float)


def _at(rows: pd.DataFrame, iteration: int) -> np.ndarray:
    """Success of the text held after an iteration; nothing succeeds at iteration 0."""
    if iteration == 0:
        return np.zeros(len(rows), dtype=bool)
    return _matrix(rows["successes"], _iterations(rows))[:, iteration - 1].astype(bool)


def _paired_claims(
    claim: str, attacks: Sequence[AttackRows], of_first: Any, of_second: Any, pick: Any
) -> Iterator[dict[str, Any]]:
    pooled: dict[tuple[Any, ...], list[tuple[int, np.ndarray]]] = {}
    for first in filter(of_first, attacks):
        for second in filter(of_second, attacks):
            if first.model != second.model or first.position != second.position:
                continue
            ids = np.intersect1d(first.rows["example_id"], second.rows["example_id"])
            if not len(ids):
                continue
            left, right = (part.rows.set_index("example_id").loc[ids] for part in (first, second))
            i, j = pick(left, right)
            success, other = _at(left, i), _at(right, j)
            names = {"attack": first.attack, "other": second.attack, "position": first.position}
            yield _claim(claim, {**first.model, **names}, paired_difference(success, other), len(ids), +1)
            key = tuple(first.model[name] for name in _MODEL if name != "seed") + tuple(names.values())
            pooled.setdefault(key, []).append((first.model["seed"], success.astype(float) - other))
    columns = [*(name for name in _MODEL if name != "seed"), "attack", "other", "position"]
    for key, parts in pooled.items():
        if len(parts) >= _SEEDS_TO_POOL:
            parts.sort(key=lambda part: part[0])
            seed = derive_seed(0, claim, *(str(part) for part in key))
            estimate = bootstrap_seeds_examples([values for _, values in parts], seed=seed)
            n = sum(len(values) for _, values in parts)
            yield _claim(claim, {**dict(zip(columns, key, strict=True)), "seed": None}, estimate, n, +1)


def _defense_claims(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    curve = ["task", "family", "scale", "seed", "defense", "attack", "position"]
    cells_done = set()
    for values, rows in frame[frame["defense"] != UNDEFENDED].groupby(curve):
        key = dict(zip(curve, values, strict=True))
        last = int(rows["round"].max())
        before, after = rows[rows["round"] == 0], rows[rows["round"] == last]
        common = sorted(set(before["iteration"]) & set(after["iteration"]))
        if last == 0 or not common or common[-1] == 0:
            continue
        old, new = (part[part["iteration"] == common[-1]].iloc[0] for part in (before, after))
        place = {**key, "round": last, "other": "round 0"}
        difference = independent_difference(
            int(new["n_success"]), int(new["n_attacked"]), int(old["n_success"]), int(old["n_attacked"])
        )
        yield _claim("defense_lowers_asr", place, difference, int(new["n_attacked"]), -1)
        cell = values[:5]
        if cell not in cells_done and np.isfinite([new["clean_accuracy"], old["clean_accuracy"]]).all():
            cells_done.add(cell)
            (k_new, n_new), (k_old, n_old) = _clean(new), _clean(old)
            change = independent_difference(k_new, n_new, k_old, n_old)
            yield _claim("defense_costs_accuracy", {**place, "attack": None, "position": None}, change, n_new, -1)


def _clean(row: pd.Series) -> tuple[int, int]:
    n = int(row["n_examples"] if pd.isna(row["n_clean_examples"]) else row["n_clean_examples"])
    return round(float(row["clean_accuracy"]) * n), n


def _size_claims(frame: pd.DataFrame, headline: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    keys = ["task", "family", "defense", "round", "attack", "position"]
    for values, rows in frame.groupby(keys):
        fit = fits_binomial.size(at_headline(rows, headline))
        if fit.slope is not None and fit.ci_low is not None and fit.ci_high is not None:
            place = {**dict(zip(keys, values, strict=True)), "other": "n_params"}
            yield _claim("larger_is_more_robust", place, (fit.slope, fit.ci_low, fit.ci_high), fit.n_points, -1)


def _claim(
    claim: str, place: Mapping[str, Any], estimate: tuple[float, float, float], n: int, side: int
) -> dict[str, Any]:
    value, low, high = estimate
    holds = low > 0 if side > 0 else high < 0
    numbers = {"estimate": value, "ci_low": low, "ci_high": high, "n": n, "holds": bool(holds)}
    return {**dict.fromkeys(CLAIMS.names), **place, "claim": claim, **numbers}
