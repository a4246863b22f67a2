"""Attacks as jobs of Snakemake's Slurm executor: each alone and at once. Why not as arrays, and until when."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as plugin

PROFILE = (Path(__file__).parents[2] / "profiles" / "slurm" / "config.yaml").read_text()
MENDED = "this fault of arrays is gone from the plugin: docs/slurm.md may say from which release on"


def job(rule: str = "attack", **resources: Any) -> Any:
    return SimpleNamespace(rule=SimpleNamespace(name=rule), name=rule, resources=resources, is_group=lambda: False)


def submitted(jobs: list[Any], waiting: list[Any], arrays: set[str]) -> list[list[Any]]:
    """What the real executor submits of the jobs that it is offered while others are ready, too."""
    found: list[list[Any]] = []
    executor = plugin.Executor.__new__(plugin.Executor)
    executor._main_event_loop, executor.logger = object(), logging.getLogger("test")
    executor.array_jobs, executor.max_array_size = arrays, 200
    executor.workflow = SimpleNamespace(dag=SimpleNamespace(ready_jobs=waiting))
    executor._submit_job = lambda job: found.append([job])
    executor._submit_array_jobs = found.append
    executor.run_jobs(jobs)
    return found


def test_the_profile_asks_for_no_arrays() -> None:
    lines = [line for line in PROFILE.splitlines() if not line.startswith("#")]
    assert not [line for line in lines if "slurm-array" in line]


@pytest.mark.parametrize("n_offered", [1, 3])
def test_every_job_is_submitted_at_once_and_alone(n_offered: int) -> None:
    offered, others = [job(mem_mb=200 + i) for i in range(n_offered)], [job() for _ in range(5)]
    assert submitted(offered, others, arrays=set()) == [[each] for each in offered]
    assert submitted(offered, [], arrays=set()) == [[each] for each in offered]


@pytest.mark.parametrize("n_offered", [1, 3])
def test_jobs_of_an_array_would_be_held_back_and_forgotten(n_offered: int) -> None:
    offered, others = [job() for _ in range(n_offered)], [job() for _ in range(5)]
    assert submitted(offered, others, arrays={"attack"}) == [], MENDED


def test_an_array_would_be_of_jobs_that_need_different_things() -> None:
    mixed = [job(gpu=1, mem_mb=600), job(gpu=0, mem_mb=200), job(gpu=1, mem_mb=600)]
    assert submitted(mixed, [], arrays={"attack"}) == [mixed], MENDED
