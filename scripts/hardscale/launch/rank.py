"""One rank inside submitit: its environment, its streams, the end of its driver. Light imports."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from hardscale import console

#: Environment of the driver that submitit's local executor would overwrite.
KEPT_CUDA = "HARDSCALE_CUDA_VISIBLE_DEVICES"
DRIVER_PID = "HARDSCALE_DRIVER_PID"
#: Exit code of a rank that saved its state, or had none yet, because it was told to stop: start it again.
REQUEUE = 85
_GRACE_SECONDS = 60.0


def run(worker: str, job: str, argv: list[str], label: str, gang: Path, local: bool) -> dict[str, Any]:
    """Run a worker in this process; submitit pickles what it returns.

    Args:
        worker: module whose ``main(job, argv, meeting)`` is the work.
        job: the worker's job.
        argv: the worker's options.
        label: of the lines on the terminal.
        gang: folder of this launch; ``progress`` in it is what the terminal shows.
        local: whether all ranks are on this machine.

    Returns:
        ``code`` (0, 85 for "start me again", or 1) and ``line``, the last line said.
    """
    from submitit.helpers import TorchDistributedEnvironment

    environment = TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    rank = environment.rank
    if local:
        _restore_cuda()
        _end_with_the_driver()
    for signum in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(signum, _leave)  # until the job itself listens; submitit would not hear the first
    (gang / f"rank{rank}.pid").write_text(str(os.getpid()))
    said = _terminal_is(gang / "progress" if rank == 0 else gang / f"rank{rank}.said")
    code = 0
    try:
        with console.console(gang / f"rank{rank}.log", label if rank == 0 else f"{label} rank {rank}"):
            importlib.import_module(worker).main(job, argv, gang / "meeting" if local else None)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    return {"code": code, "line": last_line(said)}


def _leave(signum: int, frame: Any) -> None:  # noqa: ARG001
    raise SystemExit(REQUEUE)


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
