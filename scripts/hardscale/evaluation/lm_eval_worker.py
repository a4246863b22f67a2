"""What runs in the interpreter that has lm_eval: ``python lm_eval_worker.py MODE REQUEST ANSWER``, both files JSON.

Standard library and lm_eval alone, never hardscale, whose packages need not be there. An answer with ``error`` and
``message`` says why there is none; ``error`` is ``import`` where lm_eval cannot be imported, ``failed`` otherwise.

``check``: ``{tasks, include_path}`` -> ``{version, unknown, known, data}``: which of the tasks lm_eval does not know,
the names like those that it does, and the data sets of the hub that the tasks read.

``run``: ``{model, tasks: [{name, limit, num_fewshot}], include_path, batch_size, system_prompt, end_tokens}``, the
last being tokens that end a reply besides those of the model's files (may be absent) -> ``{version, versions,
chat_template_sha256, rows}``; a row is ``{asked, task, metric, filter, value, stderr, n, num_fewshot, task_version}``,
where ``asked`` is the task in whose evaluation it was found.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Builders of the datasets package that read files.
_FILES = frozenset({"json", "csv", "parquet", "text", "arrow", "pandas", "webdataset", "xml"})
_PACKAGES = ("lm_eval", "torch", "transformers", "tokenizers", "datasets")
#: lm_eval's own defaults, named so that another version of it draws the same.
_SEEDS = {"random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234, "fewshot_random_seed": 1234}


def check(request: dict[str, Any]) -> dict[str, Any]:
    """Which tasks there are, and what they read; nothing is fetched and no model is loaded."""
    manager = _manager(request["include_path"])
    known = list(manager.all_tasks)
    unknown = [name for name in request["tasks"] if name not in manager.task_index]
    read = [path for name in request["tasks"] for path in _data(manager.task_index, name)]
    remote = sorted({path for path in read if path not in _FILES and not Path(path).exists()})
    return {
        "version": _version(),
        "unknown": unknown,
        "known": known if unknown else [],
        "data": remote,
    }


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Evaluate a model on the tasks, one after the other, each with its own numbers of questions."""
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    on_gpu = torch.cuda.is_available()
    model = HFLM(
        pretrained=request["model"],
        device="cuda" if on_gpu else "cpu",
        dtype="bfloat16" if on_gpu else "float32",
        batch_size=request["batch_size"],
        trust_remote_code=False,
    )
    _end_at(model, request.get("end_tokens", []))
    template = model.tokenizer.get_chat_template()
    manager = _manager(request["include_path"])
    rows: list[dict[str, Any]] = []
    for task in request["tasks"]:
        found = simple_evaluate(
            model=model,
            tasks=[task["name"]],
            limit=task["limit"],
            num_fewshot=task["num_fewshot"],
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            system_instruction=request["system_prompt"],
            task_manager=manager,
            log_samples=False,
            **_SEEDS,
        )
        rows += _rows(task["name"], found)
    return {
        "version": _version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "rows": rows,
    }


def _end_at(model: Any, tokens: list[int]) -> None:
    """Let replies end at these tokens too; lm_eval by itself stops at the model's own and at texts of the task."""
    settings = getattr(getattr(model, "model", None), "generation_config", None)
    if tokens and settings is not None:
        known = settings.eos_token_id
        settings.eos_token_id = sorted({*tokens, *([known] if isinstance(known, int) else known or [])})


def _manager(include_path: str | None) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include_path)


def _data(index: Any, task: Any) -> Iterator[str]:
    """Data sets that a task reads, or the tasks of a group or tag: names on the hub, builders of files, folders.

    A group lists names of tasks, or their settings with other values; both may be further groups.
    """
    if isinstance(task, dict):
        if task.get("dataset_path"):
            yield str(task["dataset_path"])
            return
        task = task.get("task")
    if isinstance(task, list):
        for part in task:
            yield from _data(index, part)
    elif entry := index.get(task):
        settings = entry.cfg or {}
        if entry.kind.name == "TAG":
            yield from _data(index, sorted(entry.tags))
        elif entry.kind.name == "GROUP":
            yield from _data(index, settings.get("task"))
        elif settings.get("dataset_path"):
            yield str(settings["dataset_path"])


def _version() -> str:
    return importlib.metadata.version("lm_eval")


def _rows(asked: str, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every metric of every task and group in a result, with its standard error where there is one."""
    groups = found.get("group_subtasks") or {}
    measured = {**found["results"], **(found.get("groups") or {})}
    counts = {name: one["effective"] for name, one in found["n-samples"].items()}
    for task, values in sorted(measured.items()):
        n = sum(counts[leaf] for leaf in _counted(task, groups, set(counts)))
        for key, value in sorted(values.items()):
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            stderr = values.get(f"{metric}_stderr,{kind}")
            yield {
                "asked": asked,
                "task": task,
                "metric": metric,
                "filter": kind,
                "value": float(value),
                "stderr": float(stderr) if isinstance(stderr, int | float) else None,
                "n": n,
                "num_fewshot": _whole(found.get("n-shot", {}).get(task)),
                "task_version": str(found.get("versions", {}).get(task, "")),
            }


def _counted(task: str, groups: dict[str, list[str]], leaves: set[str]) -> list[str]:
    """Tasks with questions of their own that a task or group is made of."""
    if task in leaves:
        return [task]
    return [leaf for part in groups.get(task, []) for leaf in _counted(part, groups, leaves)]


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def main(arguments: list[str]) -> None:
    """Read the request, answer it; whatever goes wrong becomes an answer too."""
    mode, request, answer = arguments
    # This folder holds modules of hardscale, whose names are not meant for the packages imported here.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    said: dict[str, Any]
    try:
        import lm_eval  # noqa: F401
    except Exception as error:  # a package that is there and broken raises whatever it likes
        said = {"error": "import", "message": f"{type(error).__name__}: {error}"}
    else:
        try:
            said = {"check": check, "run": run}[mode](json.loads(Path(request).read_text(encoding="utf-8")))
        except Exception as error:
            traceback.print_exc()
            said = {"error": "failed", "message": f"{type(error).__name__}: {error}"}
    Path(answer).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
