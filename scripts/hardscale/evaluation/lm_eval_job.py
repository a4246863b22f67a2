"""Benchmarks of a chat model by lm-evaluation-harness, in an interpreter of its own (section on utility).

Nothing here needs torch: the model is loaded where lm_eval is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.tables import write_table
from hardscale.errors import ModelError, StudyError
from hardscale.evaluation.lm_eval_tool import ask_worker, interpreter, task_folder, worker_problem
from hardscale.evaluation.measure_schemas import LM_EVAL
from hardscale.evaluation.spec_check import check_settings
from hardscale.models.load import read_tokenizer
from hardscale.models.turn_end import turn_end
from hardscale.runtime.console import say
from hardscale.settings.utility import LmEvalSettings

#: Folder of the Hugging Face files in a ``model`` artifact.
_MODEL = "model"
#: A task's headline is the first of these that it has, else its first metric by name.
_HEADLINES = ("acc", "exact_match", "acc_norm", "f1")
_KEYS = frozenset({"cell", "defense", "round", "settings"})


def run_lm_eval(victim: Path, task: Path, spec: dict[str, Any], out: Path, root: Path | None = None) -> None:
    """Measure a chat model on the tasks of a study and publish an ``lm_eval`` artifact.

    Args:
        victim: ``model`` artifact of a chat model.
        task: ``task`` artifact of kind behaviors, for its system prompt.
        spec: ``cell defense round settings``; settings as in :class:`LmEvalSettings`.
        out: folder to publish.
        root: data root, where a folder of tasks is looked for that is not there by its path.

    Raises:
        StudyError: the spec is malformed, or the interpreter or its lm_eval cannot be used.
        DataError: the folder of tasks is not there.
        ModelError: lm_eval measured something else than it was asked for.
    """
    settings = check_settings(spec, _KEYS, LmEvalSettings)
    open_artifact(victim, "model")
    folder, python = task_folder(settings.include_path, root), interpreter()
    system = open_artifact(task, "task")["facts"].get("system_prompt")
    request = {
        "model": str((Path(victim) / _MODEL).absolute()),
        "tasks": [
            {"name": name, "limit": settings.limit_of(name), "num_fewshot": settings.num_fewshot_of(name)}
            for name in settings.tasks
        ],
        "include_path": folder and str(folder),
        "batch_size": settings.batch_size,
        # lm_eval takes no system prompt for the template's default, and has no way to ask for none.
        "system_prompt": system or None,
        "end_tokens": sorted(turn_end(read_tokenizer(Path(victim) / _MODEL)).tokens),
    }
    say(f"lm_eval: {', '.join(settings.tasks)}")
    answer = ask_worker(python, "run", request)
    if problem := worker_problem(python, answer):
        raise StudyError(problem)
    known = {"chat_template_sha256": answer["chat_template_sha256"], "lm_eval_version": answer["version"]}
    rows = [{**row, "headline": False, **known} for row in answer["rows"]]
    for name in settings.tasks:
        for row in headlines(rows, name):
            row["headline"] = True
    with publishing(out, "lm_eval", spec, {"victim": Path(victim), "task": Path(task)}) as draft:
        write_table(draft.path / "lm_eval.parquet", rows, LM_EVAL)
        draft.note(versions=answer["versions"], system_prompt="given" if system else "the template's own")
    say("  ".join(f"{row['task']} {row['metric']} {row['value']:.4g}" for row in rows if row["headline"]))


def headlines(rows: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows that stand for what a study names: its accuracy, or that of each of its tasks where it has no sum.

    Raises:
        ModelError: it was not measured.
    """
    found = [row for row in rows if row["asked"] == name]
    own = [row for row in found if row["task"] == name] or found
    if not own:
        raise ModelError(f"lm_eval: no number for {name}; take another task, or a larger limit")
    ranks = {metric: i for i, metric in enumerate(_HEADLINES)}
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(own, key=lambda row: (ranks.get(row["metric"], len(ranks)), row["metric"], row["filter"])):
        best.setdefault(row["task"], row)
    return list(best.values())
