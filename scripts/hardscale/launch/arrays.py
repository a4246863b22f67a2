"""Arrays of Snakemake's Slurm executor, fixed: which jobs form one, when, and whose result a task looks at.

snakemake-executor-plugin-slurm 2.x, and its -jobstep 0.x that runs on the nodes,

* hold jobs back until a full array of them is ready, and never submit what they held back (its issue 473);
* ask for all tasks of an array what the first one needs;
* let each task judge the first one's result in place of its own (its issue 447): one that ends long before the first
  has failed, and one that fails removes what the first has made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

PLUGIN = "snakemake_executor_plugin_slurm"
STEP = f"{PLUGIN}_jobstep"


def mend_arrays(plugin: Any = None, step: Any = None) -> None:
    """Fix the modules of the executor that this process loaded; once is enough.

    Args:
        plugin: what submits jobs; the loaded one when None.
        step: what runs them on the nodes; the loaded one when None.
    """
    plugin, step = plugin or sys.modules.get(PLUGIN), step or sys.modules.get(STEP)
    if plugin is not None:
        plugin.pending_jobs_for_rule = _none_to_come
        _wrap(plugin.Executor, "run_jobs", _submit_alike)
    if step is not None:
        _wrap(step.Executor, "run_job", _run_own)


def alike(jobs: Sequence[Any]) -> list[list[Any]]:
    """Jobs in groups that can be tasks of one array: of one rule, and with equal resources."""
    found: dict[Any, list[Any]] = {}
    for job in jobs:
        key = id(job) if job.is_group() else (job.rule.name, str(sorted(job.resources.items())))
        found.setdefault(key, []).append(job)
    return list(found.values())


def _none_to_come(*_: Any) -> int:
    """How many more jobs of a rule are worth waiting for, before those that are ready are submitted."""
    return 0


def _submit_alike(run_jobs: Callable[..., None], executor: Any, jobs: Sequence[Any]) -> None:
    for part in alike(jobs):
        run_jobs(executor, part)


def _run_own(run_job: Callable[..., None], executor: Any, job: Any) -> None:
    """Run a job on its node; where another one's job is run in its name, keep the hands off its files."""
    if _stands_in(executor):
        type(job).register = _nothing  # this process knows no other job
        type(job).postprocess = _nothing_later
    run_job(executor, job)


def _stands_in(executor: Any) -> bool:
    """Whether this process runs the job of a later task of an array, which it takes for the first one's."""
    task, first = os.environ.get("SLURM_ARRAY_TASK_ID"), os.environ.get("SLURM_ARRAY_TASK_MIN")
    return bool(executor.workflow.executor_settings.array_execs) and task is not None and task != first


def _nothing(*_: Any, **__: Any) -> None: ...


async def _nothing_later(*_: Any, **__: Any) -> None: ...


def _wrap(owner: type, name: str, around: Callable[..., None]) -> None:
    plain = getattr(owner, name)
    if hasattr(plain, "__wrapped__"):
        return

    def fixed(self: Any, argument: Any) -> None:
        around(plain, self, argument)

    fixed.__wrapped__ = plain  # type: ignore[attr-defined]
    setattr(owner, name, fixed)
