"""Starting the ranks of a training job and waiting for them. Imports only submitit and the standard library.

A driver process is small (no torch), so many can wait beside each other. It owns its gang: when the driver is told to
stop the ranks save their state and stop; when it is killed they notice and do the same; when one rank dies the others
are ended and the error names the rank.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from hardscale import console
from hardscale.errors import TrainingError
from hardscale.launch import rank as rank_module
from hardscale.launch.rank import REQUEUE

WORKER = "hardscale.launch.worker"
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 60.0
_KILL_SECONDS = 15.0
_MAX_STARTS = 50
_NO_LIMIT_MINUTES = 60 * 24 * 365


def run_gang(
    command: list[str],
    ranks: int,
    state: Path,
    launch: str,
    label: str,
    threads: int = 1,
    log: Path | None = None,
    worker: str = WORKER,
) -> None:
    """Run a worker in every rank and wait until all are done.

    A gang that saved its state because a rank was told to stop (exit code 85) is started again.

    Args:
        command: job of :mod:`hardscale.launch.worker`, then its options.
        ranks: processes.
        state: private folder of this job; one gang at a time lives in it.
        launch: ``local``: submitit's local executor; ``debug``: one rank, inside this process.
        label: of the lines on the terminal.
        threads: CPU threads of each rank.
        log: where the output of the ranks is appended.
        worker: module whose ``main(job, argv, meeting)`` every rank calls.

    Raises:
        TrainingError: a rank failed or died; the message is its last line.
        SystemExit: this process was told to stop: 128 + signal.
    """
    if launch == "debug" and ranks != 1:
        raise TrainingError(f"--launch debug runs one rank in this process, the study asks for ranks: {ranks}")
    state.mkdir(parents=True, exist_ok=True)
    with _only_driver(state / "driver.lock", label), _signals() as told:
        for _ in range(_MAX_STARTS):
            gang = state / "gang"
            shutil.rmtree(gang, ignore_errors=True)
            gang.mkdir(parents=True)
            try:
                if launch == "debug":
                    code = _run_here(command, gang, worker)
                else:
                    code = _Launch(command, ranks, gang, label, threads, told, worker).wait()
            finally:
                _keep_logs(gang, log)
            if told:
                raise SystemExit(128 + told[0])
            if code != REQUEUE:
                break
        else:
            raise TrainingError(f"{label}: stopped and started {_MAX_STARTS} times; something ends its ranks each time")
    shutil.rmtree(state / "gang", ignore_errors=True)
    (state / "driver.lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        state.rmdir()


def _run_here(command: list[str], gang: Path, worker: str) -> int:
    """Run the worker inside this process, for a debugger."""
    import submitit

    main = importlib.import_module(worker).main
    job = submitit.DebugExecutor(gang / "submitit").submit(main, command[0], command[1:], None)
    # results() would open a debugger of its own on an error.
    error = job.exception()
    if error is not None:
        raise error
    return 0


class _Launch:
    """One start of a gang through submitit's local executor."""

    def __init__(
        self, command: list[str], ranks: int, gang: Path, label: str, threads: int, told: list[int], worker: str
    ) -> None:
        self._gang, self._ranks, self._label, self._told = gang, ranks, label, told
        self._progress: IO[str] | None = None
        self._asked_at: float | None = None
        self._asked: set[int] = set()
        with _environment(threads), _deaf_to_interrupts():
            self._job = self._submit(command, worker)

    def _submit(self, command: list[str], worker: str) -> Any:
        import submitit

        executor = submitit.LocalExecutor(self._gang / "submitit")
        executor.update_parameters(tasks_per_node=self._ranks, timeout_min=_NO_LIMIT_MINUTES)
        return executor.submit(rank_module.run, worker, command[0], command[1:], self._label, self._gang, True)

    def wait(self) -> int:
        """Wait for all ranks; the largest of their exit codes.

        Raises:
            TrainingError: a rank failed or died.
        """
        try:
            while True:
                self._show_progress()
                ended = self._results()
                failed = [(rank, result) for rank, result in ended.items() if result["code"] not in (0, REQUEUE)]
                if failed and not self._told:
                    raise TrainingError(self._why(*failed[0]))
                if len(ended) == self._ranks:
                    return max(result["code"] for result in ended.values())
                gone = self._gone(ended)
                if gone is not None and not self._told:
                    raise TrainingError(self._why(gone, None))
                if self._told and self._stopped(ended, gone):
                    return REQUEUE
                time.sleep(_POLL_SECONDS)
        finally:
            self._end()
            self._show_progress()

    def _results(self) -> dict[int, dict[str, Any]]:
        from submitit.core.utils import pickle_load

        # Not job.result(): it answers when all ranks are done, and the first to fail must end the others.
        found = {}
        for index in range(self._ranks):
            path = self._job.task(index).paths.result_pickle
            if path.exists():
                kind, result = pickle_load(path)
                found[index] = (
                    result if kind == "success" else {"code": 1, "line": str(result).strip().splitlines()[-1]}
                )
        return found

    def _gone(self, ended: dict[int, dict[str, Any]]) -> int | None:
        """A rank that is neither running nor has left a result."""
        over = self._job.done()
        for index in range(self._ranks):
            pid = self._pid(index)
            ended_now = over or (pid is not None and not rank_module.lives(pid))
            if index not in ended and ended_now and not self._job.task(index).paths.result_pickle.exists():
                return index
        return None

    def _pid(self, index: int) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self._gang / f"rank{index}.pid").read_text())
        return None

    def _stopped(self, ended: dict[int, dict[str, Any]], gone: int | None) -> bool:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            console.say("stopping; the ranks save their state")
        asked = {index for index in range(self._ranks) if self._pid(index) is not None} - self._asked
        self._signal(signal.SIGTERM, asked)
        self._asked |= asked
        failed = any(result["code"] not in (0, REQUEUE) for result in ended.values())
        return gone is not None or failed or time.monotonic() - self._asked_at > _GRACE_SECONDS

    def _why(self, index: int, result: dict[str, Any] | None) -> str:
        line = (result or {}).get("line") or self._last_line(index)
        line = line.split("] ", 1)[-1].removeprefix("error: ")
        if result is not None and self._ranks == 1:
            return line
        how = "failed" if result is not None else "died without a word (killed, or out of memory)"
        return f"rank {index} of {self._ranks} {how}; its last line: {line or 'none'}"

    def _last_line(self, index: int) -> str:
        paths = [self._gang / name for name in (f"rank{index}.said", f"rank{index}.log")]
        if index == 0:
            paths[0] = self._gang / "progress"
        paths.append(self._job.task(index).paths.stderr)
        for path in paths:
            if line := rank_module.last_line(path):
                return line
        return ""

    def _show_progress(self) -> None:
        if self._progress is None:
            path = self._gang / "progress"
            if not path.exists():
                return
            self._progress = path.open(encoding="utf-8", errors="replace")
        if text := self._progress.read():
            console._terminal.write(text)
            console._terminal.flush()

    def _signal(self, signum: int, ranks: Iterable[int]) -> None:
        for index in ranks:
            pid = self._pid(index)
            if pid is not None and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)

    def _end(self) -> None:
        """Leave no process behind."""
        process = getattr(self._job, "_process", None)
        if process is None:
            return
        deadline = time.monotonic() + 2.0
        while process.poll() is None and time.monotonic() < deadline and len(self._results()) == self._ranks:
            time.sleep(0.02)
        deadline = time.monotonic() + _KILL_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            self._signal(signal.SIGKILL, range(self._ranks))  # again: a rank that is still starting has no pid file yet
            time.sleep(_POLL_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """The environment that the ranks inherit."""
    library = str(Path(__file__).resolve().parents[2])
    paths = [library, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    values = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        rank_module.DRIVER_PID: str(os.getpid()),
    }
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        values[rank_module.KEPT_CUDA] = os.environ["CUDA_VISIBLE_DEVICES"]
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Children started here ignore Ctrl-C, which reaches the whole group: the driver stops them in its own way."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying of them."""
    told: list[int] = []

    def note(signum: int, frame: Any) -> None:  # noqa: ARG001
        told.append(signum)

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.signal(signum, note) for signum in names}
    try:
        yield told
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def _only_driver(path: Path, label: str) -> Iterator[None]:
    """Hold the job's lock; wait for a driver before us, and for the ranks that a killed one left behind."""
    with path.open("a+") as file:
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    console.say(f"another process runs {label} in {path.parent}; waiting for it")
                    said = True
                time.sleep(0.5)
        _wait_for_orphans(path.parent / "gang")
        yield


def _wait_for_orphans(gang: Path) -> None:
    pids = [int(path.read_text() or 0) for path in gang.glob("rank*.pid")]
    mine = [pid for pid in pids if pid and pid != os.getpid() and _is_rank(pid, gang)]
    if not mine:
        return
    console.say("ranks of an earlier run are still stopping; waiting for them")
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(_is_rank(pid, gang) for pid in mine) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in mine:
        if _is_rank(pid, gang):
            os.kill(pid, signal.SIGKILL)


def _is_rank(pid: int, gang: Path) -> bool:
    """Whether a process is a rank of this folder, and not another one that got its number since."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(str(gang / "submitit")) in b" ".join(words)


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
