"""The tidy result table, read from the artifacts on disk: a row per model (cell, defense, round), attack and iteration.

Of an attack on a chat model there are two iterations, 0 (the request as it is) and the last, and a row for each judge,
the primary one first.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import MANIFEST, canonical_json, open_artifact
from hardscale.artifacts.schemas import ATTACK, RUNS
from hardscale.artifacts.tables import read_table
from hardscale.errors import ArtifactError
from hardscale.evaluation.replies import REPLIES_FILE, verdicts
from hardscale.runtime.console import say
from hardscale.settings.study import Cell

_LISTS = (
    "successes",
    "forward_tokens",
    "backward_tokens",
    "flops_exact_by_iteration",
    "forward_passes",
    "backward_passes",
)
_COLUMNS = (*_LISTS, "clean_prediction", "success")
#: Columns of RUNS that :func:`_cost` fills.
_COSTS = ("attack_flops_per_example", "attack_flops_exact", "n_forward_passes", "n_backward_passes")


@dataclass(frozen=True)
class AttackedModel:
    """What the table says of a model: its size, its clean accuracy and the compute that went into it."""

    n_params: int
    clean_accuracy: float | None
    n_clean: int | None
    defense_flops: float | None
    pretrain_flops: float | None
    n_seen_tokens: int | None


def collect_runs(root: Path, study: str, defense_kinds: dict[str, str]) -> pa.Table:
    """Rows of schema RUNS for every attack artifact, in a fixed order.

    Raises:
        ArtifactError: an artifact is unfinished or inconsistent, or shards of one attack are missing.
    """
    victims: dict[str, AttackedModel] = {}
    rows: list[dict[str, Any]] = []
    attacks = root / paths.top(paths.ATTACK)
    for folders in _attacks(attacks):
        spec = open_artifact(folders[0], "attack")["spec"]
        key = f"{spec['cell']}/{spec['defense']}/r{spec['round']:02d}"
        if key not in victims:
            victims[key] = _victim(root, spec)
        rows.extend(_attack_rows(folders, victims[key], study, defense_kinds[spec["defense"]]))
    rows.sort(key=_order)
    return pa.Table.from_pylist(rows, schema=RUNS.with_metadata({"attacks": _rows_digest(attacks)}))


def _rows_digest(root: Path) -> str:
    """Digest of the rows of every attack: tables that pair rows of two attacks depend on more than their counts."""
    digests = {}
    for path in sorted(root.rglob(MANIFEST)):
        files = open_artifact(path.parent, "attack")["files"]
        name = path.parent.relative_to(root).as_posix()
        digests[name] = files["attack.parquet"]["sha256"]
        if REPLIES_FILE in files:
            digests[f"{name}/{REPLIES_FILE}"] = files[REPLIES_FILE]["sha256"]
    return sha256(canonical_json(digests).encode()).hexdigest()


def _attacks(root: Path) -> list[list[Path]]:
    """Folders of every attack; the shards of one attack together."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(root.rglob(MANIFEST)):
        spec = open_artifact(path.parent, "attack")["spec"]
        groups.setdefault(f"{spec['cell']}/{spec['defense']}/{spec['round']}/{spec['attack']}", []).append(path.parent)
    for name, folders in groups.items():
        shards = [open_artifact(folder, "attack")["spec"]["shards"] for folder in folders]
        if set(shards) != {len(folders)}:
            raise ArtifactError(
                f"{folders[0].parent}: {name} has {len(folders)} shard(s) of {shards[0]}; run snakemake again"
            )
    return list(groups.values())


def _victim(root: Path, spec: dict[str, Any]) -> AttackedModel:
    cell = Cell.parse(spec["cell"])
    facts = open_artifact(paths.model(root, f"{cell.key}/{spec['defense']}", spec["round"]), "model")["facts"]
    finetuned = open_artifact(paths.model(root, f"{cell.key}/none", 0), "model")["facts"]
    family, scale = cell.family, cell.scale
    base = root / paths.fill(paths.PRETRAINED, family=family, scale=scale)
    if not (base / MANIFEST).is_file():
        base = root / paths.fill(paths.BASE, family=family, scale=scale)
    base_facts = open_artifact(base, "base_model")["facts"]
    pretrain = base_facts["pretrain_flops"]
    if base_facts["scratch"]:
        # A model made here has seen nothing but this study: its pretraining is all that came before the defense.
        pretrain = (pretrain or 0.0) + (finetuned["training_flops"] or 0.0)
    return AttackedModel(
        n_params=facts["n_params"],
        clean_accuracy=facts["clean_accuracy"],
        n_clean=None if facts["clean_accuracy"] is None else facts["n_clean"],
        defense_flops=facts["defense_flops"],
        pretrain_flops=pretrain,
        n_seen_tokens=facts.get("n_seen_tokens"),
    )


def _attack_rows(folders: list[Path], victim: AttackedModel, study: str, defense_kind: str) -> list[dict[str, Any]]:
    manifest = open_artifact(folders[0], "attack")
    spec, facts = manifest["spec"], manifest["facts"]
    settings = spec["settings"]
    cell = Cell.parse(spec["cell"])
    n_attacked = int(facts["n_attacked"])
    tables = [read_table(folder / "attack.parquet", ATTACK, columns=_COLUMNS) for folder in folders]
    table = pa.concat_tables(tables)
    if table.num_rows != n_attacked:
        raise ArtifactError(
            f"{folders[0]}: {table.num_rows} attacked rows, the manifest says {n_attacked}; delete it and run again"
        )
    n_iterations = int(settings["n_iterations"])
    lists = {name: _matrix(table, name, n_iterations) for name in _LISTS}
    common = {
        "study": study,
        "task": cell.task,
        "family": cell.family,
        "scale": cell.scale,
        "n_params": victim.n_params,
        "seed": cell.seed,
        "defense": spec["defense"],
        "defense_kind": defense_kind,
        "round": spec["round"],
        "attack": spec["attack"],
        "attack_kind": settings["kind"],
        "position": settings["position"],
        "n_examples": int(facts["n_examples"]),
        "n_attacked": n_attacked,
        "clean_accuracy": victim.clean_accuracy,
        "n_clean_examples": victim.n_clean,
        "defense_flops": victim.defense_flops,
        "pretrain_flops": victim.pretrain_flops,
        "n_seen_tokens": victim.n_seen_tokens,
        "attack_seed": None,
        "success_rule": facts["success_rule"],
        "judge": None,
        "eps": (settings.get("perturbation") or {}).get("eps"),
    }
    costs = [_cost(lists, victim, i) if n_attacked else dict.fromkeys(_COSTS) for i in range(n_iterations + 1)]
    if "judges" in spec:
        return _judged(folders, common, costs, table)
    return _classified(lists["successes"], common, costs, complete=not settings.get("early_stop", False))


def _classified(
    successes: np.ndarray, common: dict[str, Any], costs: list[dict[str, Any]], *, complete: bool
) -> list[dict[str, Any]]:
    """A row an iteration of an attack on a classifier; ``complete`` unless examples stopped at their first success."""
    n_attacked, any_success = len(successes), np.maximum.accumulate(successes, axis=1)
    some, rows = n_attacked > 0, []
    for i, cost in enumerate(costs):
        held = int(successes[:, i - 1].sum()) if i and some else 0
        ever = int(any_success[:, i - 1].sum()) if i and some else 0
        known = some and (complete or i == 0)
        rows.append(
            {
                **common,
                **cost,
                "iteration": i,
                "n_success": held if known else None,
                "asr": held / n_attacked if known else None,
                "n_success_any": ever if some else None,
                "asr_any": ever / n_attacked if some else None,
            }
        )
    return rows


def _judged(
    folders: list[Path], common: dict[str, Any], costs: list[dict[str, Any]], table: pa.Table
) -> list[dict[str, Any]]:
    """A row a judge before the attack and after it; see :mod:`hardscale.evaluation.replies`."""
    # The first judge's verdicts, or where it is about a protected text those of the judge that knows it.
    columns = {False: "clean_prediction", True: "success"}
    primary = {after: sum(table.column(name).to_pylist()) for after, name in columns.items()}
    rows = []
    for said in verdicts(folders, common["n_attacked"], len(costs) - 1, primary):
        if said.n_unread:
            where = f"{folders[0]}, iteration {said.iteration}"
            say(f"note: {said.n_unread} verdicts of {said.judge} cannot be read and count as not complied ({where})")
        rows.append(
            {
                **common,
                **costs[said.iteration],
                "iteration": said.iteration,
                "n_attacked": said.n_judged,
                "judge": said.judge,
                "n_success": said.n_complied,
                "asr": said.n_complied / said.n_judged,
                "n_success_any": None,
                "asr_any": None,
            }
        )
    return rows


def _cost(lists: dict[str, np.ndarray], victim: AttackedModel, iteration: int) -> dict[str, Any]:
    """Mean compute of one example up to an iteration."""
    forward, backward, exact, n_forward, n_backward = (
        _mean(lists[name], iteration)
        for name in ("forward_tokens", "backward_tokens", "flops_exact_by_iteration", *_LISTS[-2:])
    )
    values = (2.0 * victim.n_params * (forward + 2.0 * backward), exact, n_forward, n_backward)
    return dict(zip(_COSTS, values, strict=True))


def _matrix(table: pa.Table, name: str, n_iterations: int) -> np.ndarray:
    """A list column as (n_attacked, n_iterations)."""
    values = table.column(name).to_pylist()
    if any(len(row) != n_iterations for row in values):
        raise ArtifactError(
            f"attack.parquet: column {name} does not hold {n_iterations} iterations; delete it and run again"
        )
    return np.array(values, dtype=bool if name == "successes" else float).reshape(len(values), n_iterations)


def _mean(values: np.ndarray, iteration: int) -> float:
    """Mean over examples of a cumulative quantity after ``iteration`` iterations."""
    return float(values[:, iteration - 1].mean()) if iteration and len(values) else 0.0


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    keys = ("task", "family", "n_params", "scale", "seed", "defense", "round", "attack", "iteration")
    return tuple(row[key] for key in keys)
