"""What Snakemake's Slurm executor does when Slurm does not answer: keep its jobs, and look again.

The executor hands back the jobs that go on after each look. After a look in which no question was answered it hands
back none (snakemake-executor-plugin-slurm up to 2.8.0): they are forgotten, and Snakemake waits for them for ever.

This is the only change that hardscale makes to a class of another package. The executor's own setting,
``slurm-status-attempts`` (questions in a look), is not enough, however high:

* While slurmctld does not answer, a look takes ``sacct`` where that is installed, and keeps to it. Without a database
  ``sacct`` never answers, so the look fails after slurmctld is back, too, and the jobs are forgotten all the same. With
  400 attempts, one in 10 s, a run still hung 200 s after an outage of 40 s.
* Attempts follow each other without a pause. Where each fails at once, 40 are over within 8 s.
* Ctrl-C is not heard before the look is over. With 400 attempts a run was still there after 150 s; with the five of the
  executor's default and this change it ends within 50 s.

Upstream: issue 207 of snakemake-executor-plugin-slurm (open); of a look that keeps to ``sacct`` none was found. To be
deleted, with its call in the Snakefile, when ``tests/unit/test_launch_silent_looks.py::test_the_plugin_forgets_jobs``
fails.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

PLUGIN = "snakemake_executor_plugin_slurm"


def keep_jobs_when_slurm_is_silent(executor: Any = None) -> bool:
    """Fix the class of the executor that this process loaded; once is enough.

    Args:
        executor: the class; that of the loaded plugin when None.

    Returns:
        Whether there was something to fix.
    """
    executor = executor or getattr(sys.modules.get(PLUGIN), "Executor", None)
    look = getattr(executor, "check_active_jobs", None)
    if look is None or hasattr(look, "__wrapped__"):
        return False

    async def look_again(self: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        answers = getattr(self, "_status_query_calls", None)
        async for job in look(self, active_jobs):
            yield job
        if answers is not None and self._status_query_calls == answers:  # nothing is known of any
            for job in active_jobs:
                yield job

    look_again.__wrapped__ = look  # type: ignore[attr-defined]
    executor.check_active_jobs = look_again
    return True
