"""Starting the ranks of a training job and waiting for them. Imports only submitit and the standard library.

A driver process is small (no torch), so many can wait beside each other. It owns its gang: when the driver is told to
stop the ranks save their state and stop; when one rank dies the others are ended and the error names the rank. When a
driver is killed, local ranks notice and stop; a gang on Slurm runs on and the next driver attaches to it.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from hardscale.errors import TrainingError
from hardscale.launch.full_disk import naming_a_full_disk
from hardscale.launch.lock import only_driver
from hardscale.launch.work import Allocation, Work
from hardscale.runtime import console
from hardscale.runtime.signals import noted_signals
from hardscale.runtime.stopping import REQUEUE

WORKER = "hardscale.launch.worker"
_MAX_STARTS = 50


def run_gang(
    command: list[str],
    ranks: int,
    state: Path,
    launch: str,
    label: str,
    threads: int = 1,
    log: Path | None = None,
    worker: str = WORKER,
    identity: str = "",
    allocation: Allocation | None = None,
    published: Callable[[], bool] = lambda: False,
) -> None:
    """Run a worker in every rank and wait until all are done.

    A gang that saved its state because a rank was told to stop (exit code 85) is started again.

    Args:
        command: job of :mod:`hardscale.launch.worker`, then its options.
        ranks: processes.
        state: private folder of this job; one gang at a time lives in it.
        launch: ``local``: submitit's local executor; ``slurm``: one Slurm job; ``debug``: one rank, in this process.
        label: of the lines on the terminal.
        threads: CPU threads of each rank.
        log: where the output of the ranks is appended.
        worker: module whose ``main(job, argv, meeting)`` every rank calls.
        identity: digest of what is trained.
        allocation: what to ask of Slurm.
        published: whether the outputs are there, asked after waiting for another driver of this job.

    Raises:
        TrainingError: a rank failed or died; the message is its last line.
        ArtifactError: the disk is full before the ranks could begin.
        SystemExit: this process was told to stop: 128 + signal.
    """
    if launch == "debug" and ranks != 1:
        raise TrainingError(f"--launch debug runs one rank in this process, the study asks for ranks: {ranks}")
    work = Work(command, ranks, label, threads, log, worker, identity)
    state.mkdir(parents=True, exist_ok=True)
    with naming_a_full_disk(state), only_driver(state / "driver.lock", label), noted_signals() as told:
        if published():
            console.say("the result was published meanwhile")
        else:
            _until_done(work, state, launch, allocation or Allocation(), told)
    shutil.rmtree(state / "gang", ignore_errors=True)
    (state / "driver.lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        state.rmdir()


def _until_done(work: Work, state: Path, launch: str, allocation: Allocation, told: list[int]) -> None:
    for _ in range(_MAX_STARTS):
        try:
            code = _start(work, state, launch, allocation, told)
        finally:
            _keep_logs(state / "gang", work.log)
        if told:
            raise SystemExit(128 + told[0])
        if code != REQUEUE:
            return
    raise TrainingError(f"{work.label}: stopped and started {_MAX_STARTS} times; something ends its ranks each time")


def _start(work: Work, state: Path, launch: str, allocation: Allocation, told: list[int]) -> int:
    if launch == "slurm":
        from hardscale.launch.slurm import SlurmGang

        return SlurmGang(work, state, allocation, told).wait()
    gang = state / "gang"
    shutil.rmtree(gang, ignore_errors=True)
    gang.mkdir(parents=True)
    if launch == "debug":
        return _run_here(work, gang)
    from hardscale.launch.local import LocalGang

    return LocalGang(work, gang, told).wait()


def _run_here(work: Work, gang: Path) -> int:
    """Run the worker inside this process, for a debugger."""
    import submitit

    main = importlib.import_module(work.worker).main
    submitted = submitit.DebugExecutor(gang / "submitit").submit(main, work.command[0], work.command[1:], None)
    # results() would open a debugger of its own on an error.
    error = submitted.exception()
    if error is not None:
        raise error
    return 0


def _keep_logs(gang: Path, log: Path | None) -> None:
    """Append what the ranks wrote to the job's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    if log is None:
        return
    with log.open("ab") as out:
        for path in sorted([*gang.glob("rank*.log"), *gang.glob("rank*.said"), *gang.glob("submitit/*_log.*")]):
            text = path.read_bytes()
            if text.strip():
                out.write(f"--- {path.name}\n".encode() + text)
