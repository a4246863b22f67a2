"""One rank inside submitit: its environment, its streams, the end of its driver. Light imports."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardscale.errors import TrainingError
from hardscale.runtime import console, slurm_queue, stopping
from hardscale.runtime.stopping import REQUEUE

#: Environment of the driver that submitit's local executor would overwrite.
KEPT_CUDA = "HARDSCALE_CUDA_VISIBLE_DEVICES"
DRIVER_PID = "HARDSCALE_DRIVER_PID"
_GRACE_SECONDS = 60.0
#: How long ranks wait to be ended after their job was requeued.
_REQUEUE_SECONDS = 120.0
_MAX_RESTARTS = 200


def run(worker: str, job: str, argv: list[str], label: str, ranks_folder: Path, local: bool) -> dict[str, Any]:
    """Run a worker in this process; submitit pickles what it returns.

    Args:
        worker: module whose ``main(job, argv, meeting)`` is the work.
        job: the worker's job.
        argv: the worker's options.
        label: of the lines on the terminal.
        ranks_folder: folder of this launch; ``progress`` in it is what the terminal shows.
        local: whether all ranks are on this machine.

    Returns:
        ``code`` (0, 85 for "start me again", or 1) and ``line``, the last line said.
    """
    from submitit.helpers import TorchDistributedEnvironment

    environment = TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    rank = environment.rank
    stopping.leave_at_once()  # until the job itself listens; submitit would not hear every signal
    if local:
        _restore_cuda()
        _end_with_the_driver()
        (ranks_folder / f"rank{rank}.pid").write_text(str(os.getpid()))
    else:
        _begin_on_slurm(rank, ranks_folder)
    said = _terminal_is(ranks_folder / "progress" if rank == 0 else ranks_folder / f"rank{rank}.said")
    code = 0
    try:
        with console.console(ranks_folder / f"rank{rank}.log", label if rank == 0 else f"{label} rank {rank}"):
            importlib.import_module(worker).main(job, argv, ranks_folder / "meeting" if local else None)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    if code == REQUEUE and not local:
        _wait_for_the_next_life(rank, ranks_folder)
    return {"code": code, "line": last_line(said)}


def _begin_on_slurm(rank: int, ranks_folder: Path) -> None:
    """Remove the files of the run before the requeue, and use another port."""
    from submitit import JobEnvironment

    lives = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    if lives > _MAX_RESTARTS:
        raise TrainingError(f"requeued {lives} times; something ends this job each time, see its log")
    JobEnvironment().paths.result_pickle.unlink(missing_ok=True)
    os.environ["MASTER_PORT"] = str(20_000 + (int(os.environ["MASTER_PORT"]) - 20_000 + lives) % 40_000)
    if rank == 0:
        (ranks_folder / "leave").unlink(missing_ok=True)
    (ranks_folder / f"rank{rank}.host").write_text(f"{socket.gethostname()} {os.getpid()} {lives}\n")


def _wait_for_the_next_life(rank: int, ranks_folder: Path) -> None:
    """After USR2 have the job requeued and wait to be ended; comes back where Slurm will not start it again.

    No rank may end by itself: a job all of whose ranks have ended is completed, and its results would be taken.
    SIGTERM comes with an end that somebody else decided: a cancelled job, a dead partner.
    """
    if signal.SIGUSR2 not in stopping.received:
        return
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    refused = ranks_folder / "leave"
    if rank == 0 and not _requeue():
        refused.touch()
    deadline = time.monotonic() + _REQUEUE_SECONDS
    while not refused.exists() and time.monotonic() < deadline:
        time.sleep(0.5)


def _requeue() -> bool:
    number = os.environ.get("SLURM_JOB_ID", "")
    if shutil.which("scontrol") is None or not number.isdigit():
        return False
    try:
        # A job that is being cancelled must not come back.
        if slurm_queue.state(int(number)) != "RUNNING":
            return False
    except slurm_queue.NoAnswer:
        return False
    return subprocess.run(["scontrol", "requeue", number], check=False).returncode == 0


def _terminal_is(path: Path) -> Path:
    # console() takes the stream that is standard error when it starts for the terminal.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 2)
    os.close(handle)
    return path


def last_line(path: Path) -> str:
    """The last line of a text file that is not blank; empty when there is none."""
    with contextlib.suppress(OSError):
        lines = [
            line
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.strip() and not line.startswith("submitit ")
        ]
        return lines[-1] if lines else ""
    return ""


def _restore_cuda() -> None:
    kept = os.environ.get(KEPT_CUDA)
    if kept is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = kept


def _end_with_the_driver() -> None:
    """Watch the driver: when it is gone, save and stop, and after a minute stop without saving."""
    driver = int(os.environ.get(DRIVER_PID, "0"))
    if not driver or driver == os.getpid():
        return

    def watch() -> None:
        while lives(driver):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="driver-watch").start()


def lives(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@contextlib.contextmanager
def environment(threads: int, local: bool = True) -> Iterator[None]:
    """The environment that the ranks inherit; only local ones end with this process."""
    library = str(Path(__file__).resolve().parents[2])
    paths = [library, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    values = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        DRIVER_PID: str(os.getpid()) if local else "0",
    }
    if local and "CUDA_VISIBLE_DEVICES" in os.environ:
        values[KEPT_CUDA] = os.environ["CUDA_VISIBLE_DEVICES"]
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
def ignore_sigint() -> Iterator[None]:
    """Children started here ignore Ctrl-C, which reaches the whole group: the driver stops them in its own way."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
