"""The main function of training scripts: parse options, open the log, start the ranks and wait."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hardscale.artifacts.atomic import naming_disk_errors
from hardscale.artifacts.manifest import MANIFEST, read_manifest
from hardscale.errors import ArtifactError, TrainingError
from hardscale.launch.arguments import Allocation, LaunchRequest, identity_of, outputs, parser, read_spec
from hardscale.launch.lock import only_driver
from hardscale.launch.state import RECORD, naming_a_full_disk, restore
from hardscale.runtime.console import console, say
from hardscale.runtime.instruction_set import KEY, PINNED, settle
from hardscale.runtime.signals import noted_signals
from hardscale.runtime.stopping import REQUEUE

WORKER = "hardscale.launch.worker"
_MAX_STARTS = 50


def drive(job: str, argv: list[str] | None = None) -> None:
    """Run a distributed job from its command line and wait for it; exits with a status.

    Args:
        job: kind of a job with ``training`` in the job table, e.g. ``finetune``.
        argv: options; those of this process when None.
    """
    options = sys.argv[1:] if argv is None else argv
    arguments = parser(job).parse_args(options)
    label = _label(job, arguments.spec)
    with console(arguments.log, label):
        spec = read_spec(arguments.spec)
        settle(spec.get(KEY, PINNED))  # for the ranks, which load numpy before they know what they are
        identity = identity_of(job, spec, arguments)
        state = arguments.state.absolute()
        began = _now(state)
        outs = outputs(job, spec, arguments.out)
        if restore(state, identity, outs):
            say("an interrupted run had finished this; its result is whole and was kept")
            return
        run_ranks(
            [job, *options],
            ranks=int(spec.get("ranks", 1)),
            state=state,
            launch=arguments.launch,
            label=label,
            threads=arguments.threads,
            log=arguments.log,
            identity=identity,
            allocation=Allocation.of_site(arguments.nodes, arguments.gpus, arguments.mem_mb, arguments.minutes),
            published=_published(outs, identity, state, began),
        )


def _now(folder: Path) -> float:
    """The time by the clock that stamps files in a folder; a file server's may differ from this host's."""
    with naming_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime


def _published(outs: list[Path], identity: str, state: Path, began: float) -> Callable[[], bool]:
    """Whether another driver of the same work published all outputs while this one waited for it."""

    def published() -> bool:
        with contextlib.suppress(OSError, ValueError, ArtifactError):
            record = json.loads((state / RECORD).read_text(encoding="utf-8"))
            written = [(folder / MANIFEST).stat().st_mtime >= began - 1 for folder in outs]
            return record["identity"] == identity and all(written) and all(map(read_manifest, outs))
        return False

    return published


def _label(job: str, spec_option: str) -> str:
    """What the terminal calls this job: enough to tell it from the others of a study."""
    try:
        spec = read_spec(spec_option)
    except TrainingError:
        return job
    names = ("cell", "defense", "family", "scale")
    words = [job, "/".join(str(spec[name]) for name in names if name in spec)]
    if "first_round" in spec:
        words.append(f"rounds {spec['first_round']}-{spec['last_round']}")
    return " ".join(words)


def run_ranks(
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

    A distributed job that saved its state because a rank was told to stop (exit code 85) is started again.

    Args:
        command: job of :mod:`hardscale.launch.worker`, then its options.
        ranks: processes.
        state: private folder of this job; one distributed job at a time lives in it.
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
    work = LaunchRequest(command, ranks, label, threads, log, worker, identity)
    state.mkdir(parents=True, exist_ok=True)
    with naming_a_full_disk(state), only_driver(state / "driver.lock", label), noted_signals() as received:
        if published():
            say("the result was published meanwhile")
        else:
            _until_done(work, state, launch, allocation or Allocation(), received)
    shutil.rmtree(state / "ranks", ignore_errors=True)
    (state / "driver.lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        state.rmdir()


def _until_done(work: LaunchRequest, state: Path, launch: str, allocation: Allocation, received: list[int]) -> None:
    for _ in range(_MAX_STARTS):
        try:
            code = _start(work, state, launch, allocation, received)
        finally:
            _keep_logs(state / "ranks", work.log)
        if received:
            raise SystemExit(128 + received[0])
        if code != REQUEUE:
            return
    raise TrainingError(f"{work.label}: stopped and started {_MAX_STARTS} times; something ends its ranks each time")


def _start(work: LaunchRequest, state: Path, launch: str, allocation: Allocation, received: list[int]) -> int:
    if launch == "slurm":
        from hardscale.launch.slurm import SlurmRanks

        return SlurmRanks(work, state, allocation, received).wait()
    ranks_folder = state / "ranks"
    shutil.rmtree(ranks_folder, ignore_errors=True)
    ranks_folder.mkdir(parents=True)
    if launch == "debug":
        return _run_here(work, ranks_folder)
    from hardscale.launch.local import LocalRanks

    return LocalRanks(work, ranks_folder, received).wait()


def _run_here(work: LaunchRequest, ranks_folder: Path) -> int:
    """Run the worker inside this process, for a debugger."""
    import submitit

    main = importlib.import_module(work.worker).main
    submitted = submitit.DebugExecutor(ranks_folder / "submitit").submit(main, work.command[0], work.command[1:], None)
    # results() would open a debugger of its own on an error.
    error = submitted.exception()
    if error is not None:
        raise error
    return 0


def _keep_logs(ranks_folder: Path, log: Path | None) -> None:
    """Append what the ranks wrote to the job's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    if log is None:
        return
    with log.open("ab") as out:
        for path in sorted(
            [*ranks_folder.glob("rank*.log"), *ranks_folder.glob("rank*.said"), *ranks_folder.glob("submitit/*_log.*")]
        ):
            text = path.read_bytes()
            if text.strip():
                out.write(f"--- {path.name}\n".encode() + text)
