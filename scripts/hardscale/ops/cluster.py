"""Asking Slurm's commands what the cluster is like. Standard library only."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from hardscale.ops.profile import Profile
from hardscale.plan.estimates import ResourceEstimates
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import parse_part
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
        rule = demand.rule.rstrip("0123456789_")  # blocks of rounds are rules of their own
        found.setdefault((rule, demand.partition, demand.account, demand.site, demand.size), demand)
    return [
        demand
        for key, demand in found.items()
        if not any(key[:-1] == other[:-1] and key != other and _covers(other[-1], key[-1]) for other in found)
    ]


def _covers(large: tuple[int, ...], small: tuple[int, ...]) -> bool:
    return all(a >= b for a, b in zip(large, small, strict=True))


def disk_mb(study: Study) -> int:
    """About how much disk the whole study takes, MB."""
    needs = ResourceEstimates(study)
    return sum(needs.disk_mb(wildcards) for _, wildcards, _ in _distributed(Jobs(study)))


def _all(study: Study, profile: Profile, attempt: int) -> Iterator[Demand]:
    jobs = Jobs(study)
    needs = ResourceEstimates(study, others=jobs.helpers.beside)
    if profile.launch.how == "slurm":
        for rule, wildcards, label in _distributed(jobs):
            yield _distributed_job(rule, wildcards, label, needs, profile, attempt)
    if profile.values.get("executor") == "slurm":
        for wildcards, label in _attacks(jobs):
            yield _single("attack", wildcards, label, needs, profile, attempt)
        rated = needs.beside(jobs.measures.raters)
        for rule, wildcards, label in _measures(jobs):
            yield _single(rule, wildcards, label, rated if rule == "mt_bench" else needs, profile, attempt)


def _distributed(jobs: Jobs) -> Iterator[tuple[str, Any, str]]:
    """Rule, wildcards and label of every training job."""
    for family, scale in dict.fromkeys((cell.family, cell.scale) for cell in jobs.grid.cells):
        if jobs.study.families[family].pretrain is not None:
            yield "pretrain", SimpleNamespace(family=family, scale=scale), f"{family}/{scale}"
    for cell in jobs.grid.cells:
        if not jobs.study.is_chat(cell.task):
            yield "finetune", SimpleNamespace(cell=cell.key), cell.key
    for lineage in jobs.chat.trained():
        yield "continuous", SimpleNamespace(lineage=lineage.key), lineage.key
    for block in [*jobs.grid.blocks, *jobs.chat.c_at_blocks]:
        for lineage in block.lineages:
            yield block.name, SimpleNamespace(lineage=lineage.key), lineage.key


def _attacks(jobs: Jobs) -> Iterator[tuple[Any, str]]:
    root = jobs.layout.root / "attacks"
    for folder in jobs.grid.attack_folders():
        *lineage, number, part = folder.relative_to(root).parts
        wildcards = SimpleNamespace(lineage="/".join(lineage), round=number.removeprefix("r"), part=part)
        yield wildcards, f"{'/'.join(lineage)} with {parse_part(part)[0]}"


def _measures(jobs: Jobs) -> Iterator[tuple[str, Any, str]]:
    """Rule, wildcards and label of every job that measures the utility of a chat model."""
    for folder in [*jobs.chat.utility_folders(), *jobs.measures.folders()]:
        rule, *lineage, number = folder.relative_to(jobs.layout.root).parts
        wildcards = SimpleNamespace(lineage="/".join(lineage), round=number.removeprefix("r"))
        yield rule, wildcards, wildcards.lineage


def _distributed_job(
    rule: str, wildcards: Any, label: str, needs: ResourceEstimates, profile: Profile, attempt: int
) -> Demand:
    own, site = profile.of_rule(rule), profile.launch.site
    needs = needs.of("pretrain") if rule == "pretrain" else needs
    nodes = _whole(own, "nodes", needs.nodes(wildcards))
    tasks = max(1, needs.ranks(wildcards) // nodes)
    extra = [f"--{key}" if value is True else f"--{key}={value}" for key, value in (site.get("extra") or {}).items()]
    return Demand(
        rule=rule,
        label=label,
        nodes=nodes,
        tasks=tasks,
        cpus=1,
        mem_mb=_whole(own, "mem_mb", needs.mem_mb(wildcards, attempt)) * tasks,
        minutes=_whole(own, "runtime", needs.runtime(wildcards, attempt)),
        gpus=_whole(own, "gpu", needs.gpu(wildcards)) // nodes,
        partition=site.get("partition"),
        account=site.get("account"),
        site=(*([f"--qos={site['qos']}"] if site.get("qos") else []), *extra),
    )


def _single(rule: str, wildcards: Any, label: str, needs: ResourceEstimates, profile: Profile, attempt: int) -> Demand:
    """A job of Snakemake's own executor: one task."""
    set_for_rule = profile.of_rule(rule)
    own = {**profile.defaults, **set_for_rule}
    gres = str(own.get("gres") or "").strip("'\"")
    qos = own.get("qos") or profile.values.get("slurm-qos")
    constraint = own.get("constraint")
    site = [f"--gres={gres}"] if gres else []
    site += [f"--{key}={value}" for key, value in (("qos", qos), ("constraint", constraint)) if value]
    return Demand(
        rule=rule,
        label=label,
        nodes=1,
        tasks=1,
        cpus=_whole(set_for_rule, "cpus_per_task", 1),
        mem_mb=_whole(set_for_rule, "mem_mb", needs.mem_mb(wildcards, attempt)),
        minutes=_whole(set_for_rule, "runtime", needs.runtime(wildcards, attempt)),
        gpus=(gpus_of(gres) or int("gpu" in gres)) if gres else _whole(set_for_rule, "gpu", needs.gpu(wildcards)),
        partition=own.get("slurm_partition"),
        account=own.get("slurm_account"),
        site=tuple(site),
    )


def _whole(own: dict[str, Any], name: str, estimate: int) -> int:
    """A resource that the profile sets for a rule; expressions are left to Snakemake."""
    value = own.get(name)
    return value if isinstance(value, int) else int(value) if isinstance(value, str) and value.isdigit() else estimate
