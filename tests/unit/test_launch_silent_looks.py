"""Snakemake's Slurm executor and a Slurm that does not answer."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as plugin

from hardscale.launch.silent_looks import keep_jobs_when_slurm_is_silent


class NoLimit:
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...


def executor(kind: type) -> Any:
    """The real class without a workflow."""
    made = kind.__new__(kind)
    settings = SimpleNamespace(init_seconds_before_status_checks=1, status_attempts=2, keep_successful_logs=True)
    made.workflow = SimpleNamespace(executor_settings=settings)
    made.logger, made.run_uuid = logging.getLogger("test"), "uuid"
    made._status_query_calls, made._status_query_failures, made._status_query_total_seconds = 0, 0, 0.0
    made._status_query_min_seconds, made._status_query_max_seconds = None, 0.0
    made._status_query_cycle_rows, made._preemption_warning = [], False
    made._next_seconds_between_status_checks = 1
    made.get_status_command, made.reported = lambda: "squeue", []
    made.report_job_success = made.reported.append
    return made


@pytest.fixture
def look(monkeypatch):
    """One look of an executor at two jobs: the jobs that it keeps, and those that it reported."""
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: 600)
    monkeypatch.setattr(plugin.Executor, "status_rate_limiter", NoLimit(), raising=False)
    jobs = [SimpleNamespace(external_jobid=name, aux={}) for name in ("7", "8")]

    def once(kind: type, answer: dict[str, str] | None) -> tuple[list[str], list[str]]:
        async def asked(*_: object) -> Any:
            return (None, None) if answer is None else (answer, 0.1)

        async def kept() -> list[str]:
            return [job.external_jobid async for job in made.check_active_jobs(jobs)]

        monkeypatch.setattr(plugin, "query_job_status", asked)
        made = executor(kind)
        return asyncio.run(kept()), [job.external_jobid for job in made.reported]

    return once


def test_jobs_are_kept_when_nothing_was_answered(look):
    fixed = type("Mended", (plugin.Executor,), {})
    fixed.check_active_jobs = plugin.Executor.check_active_jobs
    assert keep_jobs_when_slurm_is_silent(fixed)
    assert look(plugin.Executor, None) == ([], []), "the plugin fixes it itself: take this out"
    assert look(fixed, None) == (["7", "8"], [])
    assert look(fixed, {"7": "COMPLETED", "8": "RUNNING"}) == (["8"], ["7"])
    assert look(fixed, {"7": "COMPLETED", "8": "COMPLETED"}) == ([], ["7", "8"])
    assert look(fixed, {}) == (["7", "8"], [])


def test_it_is_fixed_once_and_only_what_is_there():
    fixed = type("Mended", (plugin.Executor,), {"check_active_jobs": plugin.Executor.check_active_jobs})
    assert keep_jobs_when_slurm_is_silent(fixed)
    assert not keep_jobs_when_slurm_is_silent(fixed)
    assert not keep_jobs_when_slurm_is_silent(object)
