"""What every defense cost: passes of one adversarial example, passes of the whole training, FLOPs, time.

Passes are sequences through the model. *By the formula* they are what a defense's settings ask for, as the paper on
continuous attacks counts them (section on efficiency); *counted* is what its training noted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import MANIFEST, canonical_json, open_artifact
from hardscale.artifacts.rounds_plan import ramp
from hardscale.artifacts.schemas import METRICS, TIMING
from hardscale.artifacts.tables import read_table
from hardscale.errors import DataError
from hardscale.models.flops import continuous_passes, r2d2_passes
from hardscale.settings.study import UNDEFENDED
from hardscale.settings.study_attacks import attack_facts
from hardscale.settings.study_defenses import DEFENSE_KINDS

_str, _i64, _f64 = pa.string(), pa.int64(), pa.float64()
#: Columns of tables/cost.parquet; null where a defense has no such number or nobody knows it.
COST = pa.schema(
    [
        *((name, _str) for name in ("task", "family", "scale")),
        ("n_params", _i64),
        ("seed", _i64),
        *((name, _str) for name in ("defense", "defense_kind", "attack_space")),
        ("round", _i64),
        *((name, _f64) for name in ("eps", "beta")),
        ("variant", _str),  # equal where all other settings of the training are
        ("example_forward_passes", _f64),  # of the attack on one adversarial example
        ("example_backward_passes", _f64),
        ("n_updates", _i64),
        ("batch_size", _i64),
        ("passes_formula", _f64),  # forward and backward, of the whole training
        ("forward_passes", _i64),  # counted
        ("backward_passes", _i64),
        ("defense_flops", _f64),
        ("defense_flops_exact", _f64),
        ("eps_unused", pa.bool_()),  # no perturbation of the training left the ball: eps had no part in it
    ]
)
#: Only in cost.csv: it is another one on every run.
SECONDS = "seconds_per_update"


@dataclass(frozen=True)
class Passes:
    """What a defense's settings ask for.

    Attributes:
        space: of the attack in training: ``discrete``, ``continuous`` or None for no attack.
        forward: passes of the attack on one adversarial example.
        backward: likewise.
        batch_size: rows of an update.
        whole: forward and backward passes of the whole training.
    """

    space: str | None
    forward: float
    backward: float
    batch_size: int
    whole: float


def cost_table(root: Path, defense_kinds: Mapping[str, str]) -> pd.DataFrame:
    """A row a defended model, after each of its rounds and of all up to it: columns COST and ``seconds_per_update``.

    Args:
        root: ``results/<study>``.
        defense_kinds: of the study's defenses; others that lie there are left out.

    Raises:
        ArtifactError: an artifact is unfinished.
    """
    rows = [
        row
        for lineage, models in sorted(_lineages(root).items())
        if (defense := lineage.rpartition("/")[2]) in defense_kinds and defense != UNDEFENDED
        for row in _rows(lineage, sorted(models.items()), defense_kinds[defense])
    ]
    table = pd.DataFrame(rows, columns=[*COST.names, SECONDS])
    whole = ["n_params", "seed", "round", "n_updates", "batch_size", "forward_passes", "backward_passes"]
    return table.astype(dict.fromkeys(whole, "Int64"))


def _lineages(root: Path) -> dict[str, dict[int, Path]]:
    """Lineage -> round -> the folder of its model."""
    found: dict[str, dict[int, Path]] = {}
    for path in (root / paths.top(paths.MODEL)).rglob(MANIFEST):
        if model := paths.parse(paths.MODEL, path.parent.relative_to(root).as_posix()):
            found.setdefault(model["lineage"], {})[int(model["round"])] = path.parent
    return found


def _rows(lineage: str, rounds: Sequence[tuple[int, Path]], kind: str) -> Iterator[dict[str, Any]]:
    """Rows of one cell's defense."""
    task, family, scale, seed, defense = lineage.split("/")
    steps: dict[tuple[int, int], tuple[int, float | None]] = {}
    for number, place in rounds:
        manifest = open_artifact(place, "model")
        facts, settings = manifest["facts"], manifest["spec"].get("settings") or {}
        steps |= _steps(place)
        asked = passes(kind, settings, [n for n, _ in steps.values()], number)
        seconds = [spent for _, spent in steps.values() if spent is not None]
        yield {
            "task": task,
            "family": family,
            "scale": scale,
            "n_params": facts["n_params"],
            "seed": int(seed[1:]),
            "defense": defense,
            "defense_kind": kind,
            "attack_space": asked.space if asked else None,
            "round": number,
            "eps": (settings.get("attack") or {}).get("eps"),
            "beta": settings.get("beta"),
            "variant": _variant(settings) if settings else None,
            "example_forward_passes": asked.forward if asked else None,
            "example_backward_passes": asked.backward if asked else None,
            "n_updates": len(steps) if asked else None,
            "batch_size": asked.batch_size if asked else None,
            "passes_formula": asked.whole if asked else None,
            "forward_passes": facts.get("n_forward_passes"),
            "backward_passes": facts.get("n_backward_passes"),
            "defense_flops": facts["defense_flops"],
            "defense_flops_exact": facts.get("defense_flops_exact"),
            "eps_unused": facts.get("eps_unused"),
            SECONDS: sum(seconds) / len(seconds) if seconds else None,
        }


def _variant(settings: Mapping[str, Any]) -> str:
    """A digest of what a training was told besides its attack (whose steps and radius have columns) and ``beta``.

    Training without an attack has that of training with one: a radius of 0.
    """
    rest = {name: value for name, value in settings.items() if name not in ("attack", "beta", "overrides")}
    return hashlib.sha256(canonical_json(rest).encode()).hexdigest()[:12]


def _steps(folder: Path) -> dict[tuple[int, int], tuple[int, float | None]]:
    """(round, step) -> rows trained on and seconds, of the updates that a model's record holds."""
    if not (folder / "metrics.parquet").is_file():
        return {}
    rows = read_table(folder / "metrics.parquet", METRICS, columns=["round", "step", "n_examples"]).to_pylist()
    clock = list(_seconds(folder / "timing.parquet"))
    times = clock if len(clock) == len(rows) else [None] * len(rows)
    return {(row["round"], row["step"]): (row["n_examples"], s) for row, s in zip(rows, times, strict=True)}


def _seconds(path: Path) -> Iterator[float | None]:
    """Seconds of each update; nothing where nobody kept them."""
    try:
        yield from read_table(path, TIMING, columns=["seconds"]).column("seconds").to_pylist()
    except DataError:
        return


def passes(kind: str, settings: Mapping[str, Any], examples: Sequence[int], n_rounds: int = 1) -> Passes | None:
    """Passes by the formula; None for a defense that somebody else trained.

    Args:
        kind: of the defense.
        settings: resolved, as its model's manifest holds them.
        examples: rows of each update that was made.
        n_rounds: rounds of adversarial training that were made.
    """
    account = DEFENSE_KINDS[kind].account if kind in DEFENSE_KINDS else None
    return None if account is None else _ACCOUNTS[account](settings, examples, n_rounds)


def _continuous(settings: Mapping[str, Any], examples: Sequence[int], n_rounds: int) -> Passes:  # noqa: ARG001
    """The mean composition of a batch; a batch itself holds a whole number of adversarial rows, drawn."""
    steps, batch = _inner_steps(settings), int(settings["batch_size"])
    each_adversarial = continuous_passes(1, 1, 0, steps, _n_answers(settings))
    each_utility = continuous_passes(1, 0, 1, steps)
    share = settings["adversarial_share"]
    whole = len(examples) * batch * (share * each_adversarial + (1 - share) * each_utility)
    return Passes("continuous" if steps else None, steps, steps, batch, whole)


def _n_answers(settings: Mapping[str, Any]) -> int:
    """Answers of an adversarial row that are trained on."""
    if "preference_weight" in settings:
        return 1 if settings["loss"] == "npo" else 2
    return sum(settings[name] != 0 for name in ("toward_weight", "away_weight"))


def _classifier(settings: Mapping[str, Any], examples: Sequence[int], n_rounds: int) -> Passes:  # noqa: ARG001
    """Every row is attacked, trained on under the attack and, unless its weight is 0, as it is."""
    steps = _inner_steps(settings)
    each = 2 * steps + 2 + (2 if settings["clean_weight"] else 0)
    return Passes("continuous", steps, steps, int(settings["batch_size"]), float(each * sum(examples)))


def _r2d2(settings: Mapping[str, Any], examples: Sequence[int], n_rounds: int) -> Passes:  # noqa: ARG001
    steps, cases = settings["gcg_steps"], min(settings["cases_per_step"], settings["pool_size"])
    batch = cases + (settings["utility_batch"] if settings["utility_weight"] else 0)
    whole = r2d2_passes(len(examples), cases, batch, steps, settings["n_candidates"])
    return Passes("discrete", steps * (settings["n_candidates"] + 1), steps, batch, whole)


def _rounds(settings: Mapping[str, Any], examples: Sequence[int], n_rounds: int) -> Passes:
    """Every round attacks its new examples; the mean over rounds is what one of them costs."""
    attack = settings["attack"]
    span = settings["rounds"] + (attack.get("ramp_end") == "one_later")
    iterations = [ramp(i, span, attack["n_iterations"], attack["n_iterations_end"]) for i in range(n_rounds)]
    facts = attack_facts(attack["kind"])
    gradients = 1 if facts.ranks and attack["gradient"] else 0
    forwards = attack[facts.replaces] + gradients if facts.replaces else 1
    mean = sum(iterations) / n_rounds
    generation = settings["n_new_examples"] * sum(iterations) * (forwards + gradients)
    whole = float(generation + 2 * sum(examples))
    return Passes("discrete", forwards * mean, gradients * mean, int(settings["batch_size"]), whole)


def _inner_steps(settings: Mapping[str, Any]) -> int:
    return int(settings["attack"]["steps"]) if settings["attack"] else 0


#: ``account`` of a defense's block -> its passes.
_ACCOUNTS: dict[str, Callable[[Mapping[str, Any], Sequence[int], int], Passes]] = {
    "rounds": _rounds,
    "continuous": _continuous,
    "classifier": _classifier,
    "persistent_suffixes": _r2d2,
}
