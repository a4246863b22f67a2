"""Snakemake's Slurm executor and a Slurm that does not answer: its own fault, and that it is mended."""

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


def executor(kind: type, attempts: int) -> Any:
    """The real class without a workflow."""
    made = kind.__new__(kind)
    settings = SimpleNamespace(init_seconds_before_status_checks=1, status_attempts=attempts, keep_successful_logs=True)
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
def asked():
    """The commands of a look."""
    return []


@pytest.fixture
def look(monkeypatch, asked):
    """One look of an executor at two jobs: the jobs that it keeps, and those that it reported."""
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: 600)
    monkeypatch.setattr(plugin.Executor, "status_rate_limiter", NoLimit(), raising=False)
    jobs = [SimpleNamespace(external_jobid=name, aux={}) for name in ("7", "8")]

    def once(kind: type, answer: dict[str, str] | None, attempts: int = 2) -> tuple[list[str], list[str]]:
        async def ask(command: str, *_: object) -> Any:
            asked.append(command.split()[0])
            return (None, None) if answer is None else (answer, 0.1)

        async def kept() -> list[str]:
            return [job.external_jobid async for job in made.check_active_jobs(jobs)]

        monkeypatch.setattr(plugin, "query_job_status", ask)
        made = executor(kind, attempts)
        return asyncio.run(kept()), [job.external_jobid for job in made.reported]

    return once


def test_the_plugin_forgets_jobs(look):
    assert look(plugin.Executor, None) == ([], []), "the plugin mends it itself: take launch/silent_looks.py out"


def test_more_attempts_would_not_help_where_sacct_has_no_database(look, asked, monkeypatch):
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: None)  # slurmctld does not answer
    monkeypatch.setattr(plugin, "is_query_tool_available", lambda tool: True)
    assert look(plugin.Executor, None, attempts=400) == ([], [])
    assert asked == ["sacct"] * 400, "the plugin asks squeue again: its slurm-status-attempts may be enough now"


def test_jobs_are_kept_when_nothing_was_answered(look):
    fixed = type("Fixed", (plugin.Executor,), {})
    fixed.check_active_jobs = plugin.Executor.check_active_jobs
    assert keep_jobs_when_slurm_is_silent(fixed)
    assert look(fixed, None) == (["7", "8"], [])
    assert look(fixed, {"7": "COMPLETED", "8": "RUNNING"}) == (["8"], ["7"])
    assert look(fixed, {"7": "COMPLETED", "8": "COMPLETED"}) == ([], ["7", "8"])
    assert look(fixed, {}) == (["7", "8"], [])


def test_it_is_fixed_once_and_only_what_is_there():
    fixed = type("Mended", (plugin.Executor,), {"check_active_jobs": plugin.Executor.check_active_jobs})
    assert keep_jobs_when_slurm_is_silent(fixed)
    assert not keep_jobs_when_slurm_is_silent(fixed)
    assert not keep_jobs_when_slurm_is_silent(object)
