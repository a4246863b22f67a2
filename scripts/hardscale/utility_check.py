"""Checks of what chat models are measured and judged with, before anything runs. No torch and no transformers here."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hardscale.errors import DataError
from hardscale.evaluation.lm_eval_tool import PYTHON, ask_worker, interpreter, task_folder, worker_problem
from hardscale.settings.study import Study, data_root
from hardscale.settings.utility import LmEvalSettings, UtilitySettings
from hardscale.tasks import hub
from hardscale.tasks.locate import HubFile, HubTable, locate_file
from hardscale.untrusted.wordings import check_judge, read_named

_TABLES = ("harmless", "mmlu", "polite")
#: lm_eval loads torch and reads some ten thousand task files.
_CHECK_SECONDS = 600.0


def utility_problems(study: Study, conda: bool = False) -> list[str]:
    """One line for each table, text or tool of utility and judges that is neither on disk nor to be had.

    Args:
        study: what is to be run; without chat models nothing is looked at.
        conda: whether jobs get their environments from Snakemake, which makes them later.
    """
    if not any(study.is_chat(cell.task) for cell in study.cells()):
        return []
    root, utility = data_root(study), study.utility or UtilitySettings()
    found = [_file_problem(key, source, root) for key, source in _files(utility)]
    found += wording_problems(study, root, conda)
    if utility.mt_bench and isinstance(utility.mt_bench.judge, str):
        found.append(_function_problem(utility.mt_bench.judge))
    if utility.lm_eval:
        found += lm_eval_problems(utility.lm_eval, root, conda)
    return [line for line in found if line]


def wording_problems(study: Study, root: Path | None, conda: bool = False) -> list[str]:
    """One line for each text of others that the study's judges and attacks name and that is not there or no such text.

    Args:
        study: what is to be run.
        root: data root.
        conda: whether jobs get their environments from Snakemake: packages are then looked for by the jobs.
    """
    lines: list[str] = []
    for i, judge in enumerate(study.judges):
        if not (conda and judge.prompt_package):
            lines += _lines(lambda i=i, judge=judge: check_judge(judge, f"judges.{i}", root))  # type: ignore[misc]
    for name in dict.fromkeys(name for row in study.evaluate for name in row.attacks):
        for form in study.forms(study.attacks[name]):
            for text in form.texts(f"attacks.{name}").values():
                lines += _lines(lambda text=text: read_named(text, root))  # type: ignore[misc]
    return list(dict.fromkeys(lines))


def _lines(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except DataError as error:
        return [str(error)]
    return []


def _files(utility: UtilitySettings) -> Iterator[tuple[str, str]]:
    """Key and source of every table of questions."""
    for name in _TABLES:
        if source := getattr(utility, name):
            yield f"utility.{name}", source
    if utility.mt_bench:
        yield "utility.mt_bench.questions", utility.mt_bench.questions


def _file_problem(key: str, source: str, root: Path | None) -> str | None:
    try:
        place = locate_file(key, source, root)
    except DataError as error:
        return str(error)
    if isinstance(place, HubFile) and not hub.cached_file(place) and not hub.reachable():
        return hub.absent_file_line(key, place, root)
    return None


def _function_problem(name: str) -> str | None:
    """Looks for the module's package without importing anything of it."""
    package = name.partition(":")[0].partition(".")[0]
    here = Path.cwd() / package
    if here.is_dir() or here.with_suffix(".py").is_file() or importlib.util.find_spec(package) is not None:
        return None
    return (
        f"utility.mt_bench.judge: no module {package!r} in the working directory or on PYTHONPATH; put it there, or "
        "name a model as {family, scale}"
    )


# --- lm-evaluation-harness ------------------------------------------------------------------------------------------


def lm_eval_problems(settings: LmEvalSettings, root: Path | None, conda: bool = False) -> list[str]:
    """One line for each thing that keeps lm-evaluation-harness from running: interpreter, package, tasks, data."""
    try:
        folder = task_folder(settings.include_path, root)
    except DataError as error:
        return [str(error)]
    named = settings.python or os.environ.get(PYTHON)
    if conda and not named:
        return []
    python = interpreter(settings.python)
    if not (python.is_file() and os.access(python, os.X_OK)):
        key = "utility.lm_eval.python" if settings.python else PYTHON
        return [f"{key}: {python} is no interpreter; make one with lm_eval (docs/chat.md) and name it there"]
    asked = {"tasks": settings.tasks, "include_path": folder and str(folder)}
    answer = ask_worker(python, "check", asked, _CHECK_SECONDS)
    if problem := worker_problem(python, answer):
        return [problem]
    lines = [_unknown_task(name, answer["known"], answer["version"]) for name in answer["unknown"]]
    absent = [name for name in answer["data"] if not _to_be_had(name)]
    if absent:
        why = "offline mode is on" if hub.offline() else "the hub can not be reached"
        lines.append(
            f"utility.lm_eval.tasks: not in the hub's cache: {', '.join(absent)}; and {why}; run once with network, or "
            "name tasks with files of your own (include_path)"
        )
    return lines


def _unknown_task(name: str, known: list[str], version: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return (
        f"utility.lm_eval.tasks: {name!r} is no task of lm_eval {version}{hint}; `lm-eval ls tasks` lists its tasks, "
        "include_path adds others"
    )


def _to_be_had(name: str) -> bool:
    cached = name.count("/") == 1 and hub.cached(HubTable(name, None, None))
    return cached or hub.reachable()
