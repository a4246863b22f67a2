"""What surrounds the ranks when they are started, and the driver while it waits: environment and signals."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from hardscale.launch.rank import DRIVER_PID, KEPT_CUDA


@contextlib.contextmanager
def environment(threads: int, local: bool = True) -> Iterator[None]:
    """The environment that the ranks inherit; only local ones end with this process."""
    library = str(Path(__file__).resolve().parents[2])
    paths = [library, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    values = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELIZM": "false",
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
def deaf_to_interrupts() -> Iterator[None]:
    """Children started here ignore Ctrl-C, which reaches the whole group: the driver stops them in its own way."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
