"""Result tables as published with "Effects of Scale on Language Model Robustness", converted to the runs schema.

Evaluation tables have one row per size, seed, round and iteration; training tables one per size, seed and round, some
of them several times. Published attack compute is that of the whole attacked set for one iteration; published defense
compute is cumulative over rounds, as logged (it starts over where a run was resumed, so single seeds can fall).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from hardscale.artifacts.schemas import RUNS
from hardscale.errors import DataError
from hardscale.models.ladder import BUILTIN_FAMILIES

#: Short task names of the published files.
TASK_ALIASES = {"pm": "password_match", "wl": "word_length"}
#: What the authors multiply the logged FLOPs of Pythia 12b with: runs on several GPUs were under-counted.
FUDGE_12B = {"imdb": 1.6, "spam": 1.78, "password_match": 1.75}
DEFENSE = "adversarial-rounds"

_EVALUATION = (
    "iteration",
    "asr",
    "seed_idx",
    "adv_training_round",
    "flops_per_iteration",
    "adversarial_eval_pre_attack_accuracy",
    "adversarial_eval_n_correct_pre_attack",
    "adversarial_eval_n_examples",
)
_TRAINING = ("train_total_flops", "adv_training_round", "seed_idx", "num_params")
_ATTACK_SEED = "evaluation_evaluation_attack_seed"


def runs_from_published(
    evaluation_csv: Path,
    task: str,
    attack_kind: str,
    position: str,
    family: str = "pythia",
    training_csv: Path | None = None,
    apply_fudge: bool = False,
    *,
    study: str = "published",
    defense: str = DEFENSE,
) -> pa.Table:
    """Convert one published evaluation table, and the training table of its models if they are defended.

    Args:
        evaluation_csv: ``.csv`` or ``.csv.gz``.
        task: contract name, or ``pm`` or ``wl``.
        attack_kind: also the name of the attack.
        position: of the attack text.
        family: a builtin family, which gives scales and pretraining compute.
        training_csv: gives ``defense_flops``; null for rounds >= 1 without it.
        apply_fudge: multiply attack FLOPs of Pythia 12b as the authors do.
        study: name for the study column.
        defense: name of the defense of rounds >= 1; round 0 is ``none``.

    Returns:
        A table of schema RUNS, one row for each row of the file (duplicates dropped, the first kept).

    Raises:
        DataError: a file is missing or malformed, or a size is not one of the family.
    """
    task = TASK_ALIASES.get(task, task)
    scales = _scales(family)
    raw = _read(evaluation_csv, _EVALUATION, ("num_params", "model_size"), (_ATTACK_SEED,))
    raw = raw.drop_duplicates(["num_params", "seed_idx", "adv_training_round", "iteration"])
    unknown = sorted(set(raw["num_params"]) - set(scales["n_params"]))
    if unknown:
        allowed = ", ".join(str(n) for n in scales["n_params"])
        raise DataError(f"{evaluation_csv}: num_params {unknown[0]} is not a size of {family}; allowed are {allowed}")
    frame = raw.merge(scales, left_on="num_params", right_on="n_params", validate="many_to_one")
    frame = frame.merge(_defense_flops(training_csv), how="left", on=["num_params", "seed_idx", "adv_training_round"])
    defended = frame["adv_training_round"] >= 1
    attacked = frame["adversarial_eval_n_correct_pre_attack"]
    flops = (frame["flops_per_iteration"] * frame["iteration"] / attacked).where(attacked > 0)
    if apply_fudge and family == "pythia":
        flops = flops.where(frame["scale"] != "12b", flops * FUDGE_12B.get(task, 1.0))
    asr = frame["asr"].where(attacked > 0)
    columns = {
        "study": study,
        "task": task,
        "family": family,
        "scale": frame["scale"],
        "n_params": frame["num_params"],
        "seed": frame["seed_idx"],
        "defense": defended.map({True: defense, False: "none"}),
        "defense_kind": defended.map({True: "adversarial_rounds", False: "none"}),
        "round": frame["adv_training_round"],
        "attack": attack_kind,
        "attack_kind": attack_kind,
        "position": position,
        "iteration": frame["iteration"],
        "n_examples": frame["adversarial_eval_n_examples"].astype("int64"),
        "n_attacked": attacked.astype("int64"),
        "n_success": (asr * attacked).round().astype("Int64"),
        "asr": asr,
        "clean_accuracy": frame["adversarial_eval_pre_attack_accuracy"],
        "attack_flops_per_example": flops,
        "defense_flops": frame["defense_flops"].where(defended, 0.0),
        "pretrain_flops": frame["pretrain_flops"],
        "attack_seed": frame[_ATTACK_SEED].astype("Int64"),
        "n_clean_examples": frame["adversarial_eval_n_examples"].astype("Int64"),
    }
    runs = pd.DataFrame(columns, index=frame.index)
    runs = runs.sort_values(["n_params", "defense", "round", "seed", "iteration"], kind="stable")
    for field in RUNS:
        if field.name not in runs.columns:
            runs[field.name] = None
    return pa.Table.from_pandas(runs[RUNS.names], schema=RUNS, preserve_index=False)


def training_compute(training_csv: Path) -> pd.DataFrame:
    """Cumulative defense FLOPs of a published training table: ``n_params seed round defense_flops``, no duplicates."""
    raw = _read(training_csv, _TRAINING, (), ())
    raw = raw.drop_duplicates(["num_params", "seed_idx", "adv_training_round"])
    names = {
        "num_params": "n_params",
        "seed_idx": "seed",
        "adv_training_round": "round",
        "train_total_flops": "defense_flops",
    }
    return raw[list(names)].rename(columns=names).sort_values(["n_params", "seed", "round"]).reset_index(drop=True)


def _defense_flops(training_csv: Path | None) -> pd.DataFrame:
    names = ["num_params", "seed_idx", "adv_training_round", "defense_flops"]
    if training_csv is None:
        return pd.DataFrame(
            {name: pd.Series(dtype="float64" if name == "defense_flops" else "int64") for name in names}
        )
    return training_compute(training_csv).set_axis(names, axis=1)


def _scales(family: str) -> pd.DataFrame:
    if family not in BUILTIN_FAMILIES:
        raise DataError(f"family {family!r} is not builtin; allowed are {', '.join(BUILTIN_FAMILIES)}")
    rows = [
        {"n_params": known.classifier_parameters, "scale": scale, "pretrain_flops": float(known.pretrain_flops)}
        for scale, known in BUILTIN_FAMILIES[family].items()
    ]
    return pd.DataFrame(rows)


def _read(path: Path, required: tuple[str, ...], either: tuple[str, ...], optional: tuple[str, ...]) -> pd.DataFrame:
    """The columns wanted of a CSV file, as numbers; of ``either`` the first found, under the first's name."""
    wanted = {*required, *either, *optional}
    try:
        frame = pd.read_csv(path, usecols=lambda name: name in wanted)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give a published table as .csv or .csv.gz") from error
    except (OSError, EOFError, ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"{path}: not a readable CSV table ({' '.join(str(error).split())[:200]}); fetch it again"
        ) from error
    if either:
        found = [name for name in either if name in frame.columns]
        if not found:
            raise DataError(f"{path}: missing column {' or '.join(either)}; give a published evaluation table")
        frame = frame.rename(columns={found[0]: either[0]}).drop(columns=found[1:])
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise DataError(f"{path}: missing column(s) {', '.join(missing)}; give a table as published")
    for name in optional:
        if name not in frame.columns:
            frame[name] = float("nan")
    try:
        frame = frame.apply(pd.to_numeric)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: a column holds text where numbers belong ({error}); fetch it again") from error
    whole = [name for name in ("num_params", "seed_idx", "adv_training_round", "iteration") if name in frame.columns]
    if frame[whole].isna().to_numpy().any():
        raise DataError(f"{path}: {', '.join(whole)} must be known in every row; found empty cells")
    return frame.astype(dict.fromkeys(whole, "int64"))
