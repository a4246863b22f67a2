"""Asking Slurm's commands what the cluster is like. Standard library only."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from hardscale.launch.queue import NoAnswer

NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
_SEPARATOR = "\x1f"
_SECONDS = 60.0
_GPUS = re.compile(r"\bgpu:(?:[^:,()]+:)?(\d+)")
_NO_LIMIT = ("UNLIMITED", "INFINITE", "NONE")
#: Words of a node's state in which it takes no jobs, now or soon.
_AWAY = ("down", "drain", "fail", "maint", "reboot", "power", "unknown", "inval", "no_respond")


@dataclass(frozen=True)
class Node:
    """A node as sinfo shows it; memory in MB."""

    name: str
    state: str
    cpus: int
    mem_mb: int
    gpus: int

    @property
    def usable(self) -> bool:
        """Whether it takes jobs, or will when those that run have ended."""
        return not any(word in self.state for word in _AWAY)


@dataclass(frozen=True)
class Partition:
    """A partition; ``max_minutes`` is None without a time limit."""

    name: str
    state: str
    max_minutes: int | None
    preempt_mode: str
    nodes: tuple[Node, ...]


def missing() -> list[str]:
    """Slurm's commands that are not on PATH."""
    return [name for name in NEEDED if shutil.which(name) is None]


def call(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm.

    Raises:
        NoAnswer: it is not there, or does not end.
    """
    try:
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(f"{words[0]}: {error}") from error


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said when it failed: its last line, without the command's name."""
    lines = [line for line in (done.stderr + done.stdout).strip().splitlines() if line.strip()]
    return re.sub(r"^\w+: (error: )?", "", lines[-1]) if lines else f"exit code {done.returncode}"


def configuration() -> dict[str, str]:
    """The controller's configuration.

    Raises:
        NoAnswer: the controller can not be reached.
    """
    done = call("scontrol", "show", "config")
    if done.returncode:
        raise NoAnswer(complaint(done))
    pairs = (line.partition("=") for line in done.stdout.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def partition_names() -> tuple[list[str], str | None]:
    """All partitions that this user sees, and the default one."""
    words = call("sinfo", "--noheader", "--format=%P").stdout.split()
    default = next((word[:-1] for word in words if word.endswith("*")), None)
    return list(dict.fromkeys(word.rstrip("*") for word in words)), default


def partition(name: str) -> Partition | None:
    """A partition and its nodes; None when Slurm knows none of this name."""
    done = call("scontrol", "--oneliner", "show", "partition", name)
    if done.returncode:
        return None
    fields = dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)
    return Partition(
        name=name,
        state=fields.get("State", "UNKNOWN"),
        max_minutes=minutes(fields.get("MaxTime", "UNLIMITED")),
        preempt_mode=fields.get("PreemptMode", "OFF"),
        nodes=_nodes(name),
    )


def _nodes(name: str) -> tuple[Node, ...]:
    form = _SEPARATOR.join(("%N", "%T", "%c", "%m", "%G"))
    done = call("sinfo", "--noheader", "--Node", f"--partition={name}", f"--format={form}")
    rows = [line.split(_SEPARATOR) for line in done.stdout.splitlines() if line.count(_SEPARATOR) == 4]
    return tuple(
        Node(node.strip(), state.strip().rstrip("*~#!%$@^-"), _number(cpus), _number(memory), gpus_of(gres))
        for node, state, cpus, memory, gres in rows
    )


def gpus_of(gres: str) -> int:
    """GPUs in a list of generic resources: ``gpu:a100:4(S:0-1),shard:8`` has 4."""
    return sum(int(count) for count in _GPUS.findall(gres))


def minutes(text: str) -> int | None:
    """A time of Slurm (``D-HH:MM:SS``, ``HH:MM:SS``, ``MM:SS``) in whole minutes; None for no limit."""
    if text.upper() in _NO_LIMIT:
        return None
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        hours, mins, _ = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, mins = parts[:2]
    else:
        hours, mins = 0, parts[0]
    return int(days or 0) * 1440 + hours * 60 + mins


def seconds(text: str) -> int | None:
    """A duration of ``scontrol show config`` (``300 sec``); None when it is none."""
    match = re.match(r"\d+", text)
    return int(match[0]) if match else None


def _number(text: str) -> int:
    match = re.match(r"\d+", text.strip())
    return int(match[0]) if match else 0
