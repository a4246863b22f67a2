"""Asking Slurm's commands what the cluster is like. Standard library only."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hardscale.ops.profile import Profile
from hardscale.plan.estimates import ResourceEstimates
from hardscale.plan.job import Job
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import parse_part
from hardscale.plan.table import MEASURED
from hardscale.runtime.slurm_queue import NoAnswer
from hardscale.settings.study import Study

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
        NoAnswer: the controller cannot be reached.
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


@dataclass(frozen=True)
class Demand:
    """What a job asks of Slurm. Memory (MB), CPUs and GPUs are of each node; ``site`` is what the profile adds."""

    rule: str
    kind: str
    label: str
    nodes: int
    tasks: int
    cpus: int
    mem_mb: int
    minutes: int
    gpus: int
    partition: str | None
    account: str | None
    site: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, ...]:
        """What makes it hard to place."""
        return (self.nodes, self.cpus * self.tasks, self.mem_mb, self.minutes, self.gpus)

    def options(self) -> list[str]:
        """Options of sbatch."""
        named = {
            "partition": self.partition,
            "account": self.account,
            "nodes": self.nodes,
            "ntasks-per-node": self.tasks,
            "cpus-per-task": self.cpus,
            "mem": f"{self.mem_mb}M",
            "time": self.minutes,
            "gpus-per-node": self.gpus if self.gpus and not any("gres" in option for option in self.site) else None,
        }
        return [*(f"--{key}={value}" for key, value in named.items() if value is not None), *self.site]


def demands(study: Study, profile: Profile, attempt: int = 1) -> list[Demand]:
    """The largest jobs of each rule: none of them asks for as much as another one of the list in every respect.

    Args:
        study: what is run.
        profile: its partition, account and ``set-resources``.
        attempt: memory and time grow with it.
    """
    found: dict[tuple[Any, ...], Demand] = {}
    for demand in _all(study, profile, attempt):
        found.setdefault((demand.kind, demand.partition, demand.account, demand.site, demand.size), demand)
    return [
        demand
        for key, demand in found.items()
        if not any(key[:-1] == other[:-1] and key != other and _covers(other[-1], key[-1]) for other in found)
    ]


def _covers(large: tuple[int, ...], small: tuple[int, ...]) -> bool:
    return all(a >= b for a, b in zip(large, small, strict=True))


def disk_mb(study: Study) -> int:
    """About how much disk the whole study takes, MB."""
    jobs = Jobs(study)
    return sum(
        jobs.needs(job).disk_mb(wildcards)
        for job in jobs.all()
        if job.kind.training is not None
        for wildcards in job.instances()
    )


def _all(study: Study, profile: Profile, attempt: int) -> Iterator[Demand]:
    jobs = Jobs(study)
    for job in jobs.all():
        estimates = jobs.needs(job)
        if job.kind.training is not None:
            if profile.launch.how == "slurm":
                for wildcards in job.instances():
                    yield _distributed_job(job, wildcards, estimates, profile, attempt)
        elif job.kind.phase == MEASURED and profile.values.get("executor") == "slurm":
            for wildcards in job.instances():
                yield _single(job, wildcards, estimates, profile, attempt)


def _label(job: Job, wildcards: Any) -> str:
    """What a message calls a job: its first wildcards, and the attack."""
    values = [getattr(wildcards, name) for name in job.kind.wildcards if name != "part"]
    if "part" in job.kind.wildcards:
        return f"{wildcards.lineage} with {parse_part(wildcards.part)[0]}"
    return "/".join(values[:1] if "round" in job.kind.wildcards else values)


def _distributed_job(job: Job, wildcards: Any, estimates: ResourceEstimates, profile: Profile, attempt: int) -> Demand:
    own, site = profile.of_rule(job.rule), profile.launch.site
    nodes = _whole(own, "nodes", estimates.nodes(wildcards))
    tasks = max(1, estimates.ranks(wildcards) // nodes)
    extra = [f"--{key}" if value is True else f"--{key}={value}" for key, value in (site.get("extra") or {}).items()]
    return Demand(
        rule=job.rule,
        kind=job.kind.name,
        label=_label(job, wildcards),
        nodes=nodes,
        tasks=tasks,
        cpus=1,
        mem_mb=_whole(own, "mem_mb", estimates.mem_mb(wildcards, attempt)) * tasks,
        minutes=_whole(own, "runtime", estimates.runtime(wildcards, attempt)),
        gpus=_whole(own, "gpu", estimates.gpu(wildcards)) // nodes,
        partition=site.get("partition"),
        account=site.get("account"),
        site=(*([f"--qos={site['qos']}"] if site.get("qos") else []), *extra),
    )


def _single(job: Job, wildcards: Any, estimates: ResourceEstimates, profile: Profile, attempt: int) -> Demand:
    """A job of Snakemake's own executor: one task."""
    set_for_rule = profile.of_rule(job.rule)
    own = {**profile.defaults, **set_for_rule}
    gres = str(own.get("gres") or "").strip("'\"")
    qos = own.get("qos") or profile.values.get("slurm-qos")
    constraint = own.get("constraint")
    site = [f"--gres={gres}"] if gres else []
    site += [f"--{key}={value}" for key, value in (("qos", qos), ("constraint", constraint)) if value]
    return Demand(
        rule=job.rule,
        kind=job.kind.name,
        label=_label(job, wildcards),
        nodes=1,
        tasks=1,
        cpus=_whole(set_for_rule, "cpus_per_task", 1),
        mem_mb=_whole(set_for_rule, "mem_mb", estimates.mem_mb(wildcards, attempt)),
        minutes=_whole(set_for_rule, "runtime", estimates.runtime(wildcards, attempt)),
        gpus=(gpus_of(gres) or int("gpu" in gres)) if gres else _whole(set_for_rule, "gpu", estimates.gpu(wildcards)),
        partition=own.get("slurm_partition"),
        account=own.get("slurm_account"),
        site=tuple(site),
    )


def _whole(own: dict[str, Any], name: str, estimate: int) -> int:
    """A resource that the profile sets for a rule; expressions are left to Snakemake."""
    value = own.get(name)
    return value if isinstance(value, int) else int(value) if isinstance(value, str) and value.isdigit() else estimate
