"""Arrays of Snakemake's Slurm executor: its own faults, and that they are fixed."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as plugin
import snakemake_executor_plugin_slurm_jobstep as step

from hardscale.launch.arrays import alike, mend_arrays


def job(rule: str = "attack", group: bool = False, **resources: Any) -> Any:
    rule_ = SimpleNamespace(name=rule)
    return SimpleNamespace(rule=rule_, name=rule, resources=resources, is_group=lambda: group)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fixed is as it was after the test."""
    monkeypatch.setattr(plugin, "pending_jobs_for_rule", plugin.pending_jobs_for_rule)
    monkeypatch.setattr(plugin.Executor, "run_jobs", plugin.Executor.run_jobs)
    monkeypatch.setattr(step.Executor, "run_job", step.Executor.run_job)


def submitted(jobs: list[Any], waiting: list[Any]) -> list[list[Any]]:
    """What the real executor submits of the jobs that it is offered while others are ready, too."""
    found: list[list[Any]] = []
    executor = plugin.Executor.__new__(plugin.Executor)
    executor._main_event_loop, executor.logger = object(), logging.getLogger("test")
    executor.array_jobs, executor.max_array_size = {"attack"}, 200
    executor.workflow = SimpleNamespace(dag=SimpleNamespace(ready_jobs=waiting))
    executor._submit_job = lambda job: found.append([job])
    executor._submit_array_jobs = found.append
    executor.run_jobs(jobs)
    return found


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("n_offered", [1, 3])
def test_no_job_is_held_back(n_offered: int) -> None:
    offered, others = [job() for _ in range(n_offered)], [job() for _ in range(5)]
    assert submitted(offered, others) == [], "the plugin fixes it itself: take this out"
    mend_arrays()
    assert submitted(offered, others) == [offered]
    assert submitted(offered, []) == [offered]


@pytest.mark.usefixtures("loaded")
def test_an_array_is_of_jobs_that_need_the_same() -> None:
    small, large = [job(mem_mb=200, gpu=0) for _ in range(2)], [job(gpu=1, mem_mb=600) for _ in range(3)]
    mixed = [large[0], small[0], large[1], small[1], large[2]]
    assert submitted(mixed, []) == [mixed], "the plugin fixes it itself: take this out"
    mend_arrays()
    assert submitted(mixed, []) == [large, small]


def test_alike_are_jobs_of_one_rule_with_equal_resources() -> None:
    a, b = job(mem_mb=1, runtime=2), job(runtime=2, mem_mb=1)
    other, groups = job("utility", mem_mb=1, runtime=2), [job(group=True), job(group=True)]
    assert alike([a, other, groups[0], b, groups[1]]) == [[a, b], [other], [groups[0]], [groups[1]]]
    assert alike([]) == []


@pytest.mark.parametrize(
    ("task", "first", "array", "own"),
    [("2", "1", "payload", False), ("1", "1", "payload", True), ("2", "1", "", True), (None, None, "", True)],
    ids=["later task", "first task", "the job that a later task starts", "single job"],
)
def test_only_a_later_task_leaves_the_first_one_s_files_alone(
    task: str | None, first: str | None, array: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SLURM_ARRAY_TASK_ID", task), ("SLURM_ARRAY_TASK_MIN", first)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    seen: list[str] = []

    class Job:
        def register(self, external_jobid: str | None = None) -> None:
            seen.append("marked")

        async def postprocess(self, error: bool = False) -> None:
            seen.append("judged")

    class Executor:
        workflow = SimpleNamespace(executor_settings=SimpleNamespace(array_execs=array))

        def run_job(self, job: Job) -> None:
            seen.append("run")
            job.register(external_jobid="7")
            asyncio.run(job.postprocess(error=True))

    mend_arrays(
        plugin=SimpleNamespace(Executor=type("None_", (), {"run_jobs": None})), step=SimpleNamespace(Executor=Executor)
    )
    Executor().run_job(Job())
    assert seen == (["run", "marked", "judged"] if own else ["run"])


@pytest.mark.usefixtures("loaded")
def test_they_are_fixed_once() -> None:
    mend_arrays()
    fixed = plugin.Executor.run_jobs, step.Executor.run_job
    mend_arrays()
    assert (plugin.Executor.run_jobs, step.Executor.run_job) == fixed
