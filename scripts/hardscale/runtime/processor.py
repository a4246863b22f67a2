"""The processor that a process runs on and what its libraries make of it, for manifests. Standard library only."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from hardscale.runtime.instruction_set import NATIVE, settled, switches, why_not


@cache
def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as ``lscpu`` and the system settings of a Mac give it; its architecture when unnamed."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    if platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
            if done.stdout.strip():
                return " ".join(done.stdout.split())
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What an artifact was computed on: no part of its identity, as equal numbers may come from other machines.

    ``processor``; ``instruction_set`` as it was settled (null in a process that settled none, a test for instance);
    ``instruction_set_missing``, why the study's could not be had; ``torch``, the instructions that PyTorch's loops
    use where it is loaded; ``switches``, those of the environment that a native process found set.
    """
    facts: dict[str, Any] = {"processor": processor(), "instruction_set": settled()}
    if settled() == NATIVE:
        if (reason := why_not()) is not None:
            facts["instruction_set_missing"] = reason
        if found := {name: os.environ[name] for name in switches() if name in os.environ}:
            facts["switches"] = found
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["torch"] = torch.backends.cpu.get_cpu_capability()
    return facts
