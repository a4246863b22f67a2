"""What Snakemake's Slurm executor does when Slurm does not answer: keep its jobs, and look again.

The executor hands back the jobs that go on after each look. After a look in which no question was answered it hands
back none (snakemake-executor-plugin-slurm 2.x): they are forgotten, and Snakemake waits for them for ever.
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
