"""What a number can depend on besides the study: packages, Python, processor, GPU, driver, kernel, our own code."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shutil
import subprocess
from collections import Counter

from hardscale.artifacts.digest import ROOT, code_digest
from hardscale.artifacts.publish import versions
from hardscale.runtime.processor import processor

#: Besides the packages that every manifest names.
_PACKAGES = ("snakemake", "submitit", "pandas", "statsmodels", "safetensors", "matplotlib", "english-words")
_PARTS = ("artifacts", "tasks", "models", "attacks", "training", "evaluation", "analysis")
_NONE = "none"


def host_facts() -> dict[str, str]:
    """Facts of this machine and its environment, by name."""
    facts = versions()
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[name] = importlib.metadata.version(name)
    gpu, driver = _gpu()
    return {
        **facts,
        "CPU": processor(),
        "GPU": gpu,
        "driver": driver,
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(part for part in platform.libc_ver() if part) or _NONE,
        "machine": platform.machine(),
        "code": code(),
    }


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """``torch 2.13.0 -> 2.14.0`` for every fact that differs, in a fixed order."""
    names = sorted({*before, *now}, key=str.lower)
    pairs = [(name, before.get(name, _NONE), now.get(name, _NONE)) for name in names]
    return [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]


def has_gpu(facts: dict[str, str]) -> bool:
    """Whether facts name a GPU."""
    return facts.get("GPU", _NONE) != _NONE


def code() -> str:
    """Digest of all of our code that makes numbers."""
    modules = []
    for part in _PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            if path.name != "__init__.py":
                modules.append(".".join([ROOT.name, *path.relative_to(ROOT).with_suffix("").parts]))
    return code_digest(*modules)


def _gpu() -> tuple[str, str]:
    """Names of the GPUs that are seen here, and the version of their driver."""
    if shutil.which("nvidia-smi") is None:
        return _NONE, _NONE
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return _NONE, _NONE
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 1]
    if done.returncode or not rows:
        return _NONE, _NONE
    names = Counter(name for name, _ in rows)
    return ", ".join(f"{count} x {name}" for name, count in sorted(names.items())), rows[0][1]
