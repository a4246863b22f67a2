"""Checks before anything runs: sources are on disk or reachable, results have a place, optimizers fit the GPUs."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hardscale.errors import DataError, ModelError, StudyError
from hardscale.evaluation.lm_eval_tool import PYTHON, ask_worker, interpreter, task_folder, worker_problem
from hardscale.models.chat_templates import template_problem
from hardscale.models.fit import ability_of, ability_of_name, config_at_hand
from hardscale.models.fit import problems as demand_problems
from hardscale.models.model_config import writing_problem
from hardscale.plan.demands import Demands
from hardscale.plan.estimates import ResourceEstimates
from hardscale.plan.jobs import Jobs
from hardscale.plan.launching import Launch
from hardscale.plan.paths import Lineage
from hardscale.plan.site import VARIABLE
from hardscale.plan.table import FINETUNE, PRETRAIN
from hardscale.settings.defenses import External
from hardscale.settings.study import Cell, Study, data_root
from hardscale.settings.utility import LmEvalSettings, UtilitySettings
from hardscale.tasks import hub
from hardscale.tasks.locate import HubFile, HubTable, locate_file
from hardscale.tasks.wordings import check_judge, read_named
from hardscale.untrusted.literal import one_line

_TABLES = ("harmless", "mmlu", "polite")
#: lm_eval loads torch and reads some ten thousand task files.
_CHECK_SECONDS = 600.0


def problems(study: Study, conda: bool = False) -> list[str]:
    """One line for each task, model or measure whose source is neither on disk nor reachable.

    Args:
        study: what is to be run.
        conda: whether jobs get their environments from Snakemake.
    """
    from hardscale.models import check as models
    from hardscale.tasks import check as tasks

    cells = study.cells()
    found = [
        tasks.check_source(name, study.tasks[name], data_root(study)) for name in dict.fromkeys(c.task for c in cells)
    ]
    found += [
        models.check_external(name, block, data_root(study))
        for name, block in study.defenses.items()
        if isinstance(block, External)
    ]
    found += [
        models.check_source(family, scale, study.families[family], data_root(study))
        for family, scale in dict.fromkeys([*((c.family, c.scale) for c in cells), *study.other_models()])
    ]
    return [*(line for line in found if line), *model_problems(study), *utility_problems(study, conda)]


def place_problem(root: Path) -> str | None:
    """Why results cannot be written to ``root``; None when they can."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return None
    except OSError as error:
        return _unusable(root, error.strerror or str(error))


def _unusable(root: Path, reason: str) -> str:
    return f"{root}: results cannot be written here ({reason}); fix it, or choose a place by --directory"


def optimizer_problems(jobs: Jobs) -> list[str]:
    """One line for each scale whose GPUs ask for a ZeRO stage that its factored Adafactor cannot have."""
    found: dict[tuple[str, str, str], str] = {}
    concerned: dict[tuple[str, str], bool] = {}
    for block, cell, wildcards, estimates in _trained(jobs):
        place, scale = (block, cell.family, cell.scale), (cell.family, cell.scale)
        if scale not in concerned:
            concerned[scale] = estimates.may_need_zero(*scale)
        if not concerned[scale] or place in found or not (stage := estimates.zero_stage(wildcards)):
            continue
        optimizer = estimates.optimizer(wildcards)
        if optimizer.kind == "adafactor" and optimizer.factored:
            found[place] = (
                f"{block}.optimizer.factored: found true for {cell.family} {cell.scale}, which needs ZeRO {stage}, "
                f"where Adafactor has nothing to factor; set optimizer.kind: adamw or optimizer.factored: false "
                f"for this scale, or {estimates.without_zero(wildcards)} in the file of {VARIABLE}"
            )
    return list(found.values())


def _trained(jobs: Jobs) -> Iterator[tuple[str, Cell, Any, ResourceEstimates]]:
    """The settings block, cell, wildcards and estimates of every job that finetunes or defends."""
    for job in jobs.all():
        if job.kind.training is not None and job.kind is not PRETRAIN:
            estimates = jobs.needs(job)
            for wildcards in job.instances():
                if job.kind is FINETUNE:
                    yield "finetune", Cell.parse(wildcards.cell), wildcards, estimates
                else:
                    lineage = Lineage.parse(wildcards.lineage)
                    yield f"defenses.{lineage.defense}", lineage.cell, wildcards, estimates


def check_plan(jobs: Jobs, launch: Launch) -> None:
    """Stop before anything is planned where results lie below a file, or where Slurm's GPUs cannot train a scale."""
    root = jobs.layout.root
    for path in (root, *root.parents):
        if path.exists() and not path.is_dir():
            _stop([_unusable(root, f"{path} is a file")])
    if launch.how != "local":
        _stop(optimizer_problems(jobs))


def check_sources(study: Study, root: Path, conda: bool = False) -> None:
    """Stop the workflow with a line for each missing source, or where results cannot be written to ``root``."""
    _stop(problems(study, conda) or [line for line in [place_problem(root)] if line])


def _stop(lines: list[str]) -> None:
    if lines:
        print("\n".join(f"error: {one_line(line)}" for line in lines), file=sys.stderr)
        raise SystemExit(1)


def model_problems(study: Study) -> list[str]:
    """One line for each setting that a model of the study cannot meet, as far as is known before any job."""
    asked, root = Demands(study), data_root(study)
    lines: list[str] = []
    for family, scale in asked.models():
        ability = ability_of(family, scale, study.families[family], root)
        lines += demand_problems(asked.of(family, scale), f"{family} {scale}", ability)
        if (family, scale) in asked.writers:
            victim = (family, scale) in asked.victims
            lines += _writing_problems(study, family, scale, root, victim)
    for key, where, demands in asked.of_externals():
        lines += demand_problems(demands, key, ability_of_name(where, root))
    return list(dict.fromkeys(lines))


def _writing_problems(study: Study, family: str, scale: str, root: Path | None, victim: bool) -> Iterator[str]:
    """Why a model cannot write replies, where its files are local; a victim needs a chat template for it."""
    try:
        folder, config = config_at_hand(family, scale, study.families[family], root)
    except (ModelError, StudyError):
        return  # reported by ``problems``
    problem = writing_problem(config)
    if problem is None and folder is not None and victim:
        problem = template_problem(folder)
    if problem:
        yield f"families.{family}.scales.{scale}: {problem}"


def utility_problems(study: Study, conda: bool = False) -> list[str]:
    """One line for each table, text or tool of utility and judges that is neither on disk nor downloadable.

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
        why = "offline mode is on" if hub.offline() else "the hub cannot be reached"
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
