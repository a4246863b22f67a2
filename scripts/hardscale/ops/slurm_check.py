"""The questions of the preflight, each a generator of findings: would this study run here with this profile.

Standard library only.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from hardscale.ops import cluster
from hardscale.ops.cluster import Demand, Partition, demands, disk_mb
from hardscale.ops.preflight import optimizer_problems
from hardscale.ops.profile import Profile
from hardscale.plan.jobs import Jobs
from hardscale.runtime.slurm_queue import NoAnswer
from hardscale.settings.study import Study
from hardscale.untrusted.literal import one_line

_PLUGIN = "snakemake_executor_plugin_slurm"
#: sbatch's words -> what to set. The first that fits is taken.
_CAUSES = (
    ("account", "HARDSCALE_ACCOUNT (slurm_account in {profile}){accounts}"),
    ("partition", "HARDSCALE_PARTITION (slurm_partition in {profile})"),
    ("qos", "qos (default-resources in {profile})"),
    ("time limit", "runtime (a correction in the file of HARDSCALE_SITE)"),
    ("memory", "mem_mb (a correction in the file of HARDSCALE_SITE), or a partition with larger nodes"),
    ("gres", "gpus_per_node in the file of HARDSCALE_SITE, or gres in {profile}"),
    ("node configuration", "mem_mb, gpu and nodes (corrections in the file of HARDSCALE_SITE), or another partition"),
)


Level = Literal["ok", "warn", "FAIL"]


@dataclass
class CheckedSetup:
    """What is asked about, and what the checks learned."""

    study: Study
    profile: Profile
    config: dict[str, str] = field(default_factory=dict)
    partitions: dict[str, Partition] = field(default_factory=dict)

    @cached_property
    def demands(self) -> list[Demand]:
        """The largest jobs of each rule."""
        return demands(self.study, self.profile)


def controller(now: CheckedSetup) -> Iterator[CheckResult]:
    """Commands, plugin and controller."""
    absent = cluster.missing()
    if absent:
        yield fail(
            "commands", f"{', '.join(absent)} not on PATH; run this on a login node, perhaps after `module load slurm`"
        )
        return
    if importlib.util.find_spec(_PLUGIN) is None:
        yield fail("plugin", f"{_PLUGIN} is not installed; pip install -r envs/cpu.txt")
    try:
        now.config = cluster.configuration()
    except NoAnswer as error:
        yield fail("controller", f"does not answer: {error}; run this where `sinfo` works, perhaps set SLURM_CONF")
        return
    version, name = now.config.get("SLURM_VERSION", "?"), now.config.get("ClusterName", "?")
    yield ok("controller", f"Slurm {version}, cluster {name}")
    bare = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    if "SLURM_CONF" in os.environ and not _answers(name, bare):
        yield warn(
            "SLURM_CONF",
            "Slurm is found by this variable only, and Snakemake's jobs clear it: put wrappers of Slurm's commands "
            "that set it first on PATH",
        )


def _answers(name: str, env: dict[str, str]) -> bool:
    try:
        return f"= {name}\n" in cluster.call("scontrol", "show", "config", env=env).stdout
    except NoAnswer:
        return False


def settings(now: CheckedSetup) -> Iterator[CheckResult]:
    """The profile submits to Slurm at all, each job alone."""
    for key, value in (("executor", now.profile.values.get("executor")), ("launch", now.profile.launch.how)):
        if value != "slurm":
            where = "default-resources: launch" if key == "launch" else key
            jobs = "distributed jobs" if key == "launch" else "attacks"
            yield warn("profile", f"{now.profile.path}: {where}: found {value!r}; {jobs} do not go to Slurm")
    if now.profile.values.get("slurm-array-jobs"):
        said = "the executor's arrays lose jobs; take it out (docs/slurm.md)"
        yield fail("profile", f"{now.profile.path}: slurm-array-jobs: {said}")


def optimizers(now: CheckedSetup) -> Iterator[CheckResult]:
    """The GPUs can train every scale with the optimizer that the study gives it."""
    if now.profile.launch.how != "local":
        for problem in optimizer_problems(Jobs(now.study)):
            yield fail("optimizer", problem)


def partitions(now: CheckedSetup) -> Iterator[CheckResult]:
    """The partitions that the profile names."""
    names, default = cluster.partition_names()
    for wanted in dict.fromkeys(demand.partition for demand in now.demands):
        name = wanted or default
        variable = _partition_variable(now, wanted)
        if name is None:
            yield fail("partition", f"none is named and the cluster has no default; set {variable} to one of {names}")
            continue
        found = cluster.partition(name)
        if found is None:
            yield fail("partition", f"{name!r} is not one of {', '.join(names) or 'none'}; set {variable}")
            continue
        usable = [node for node in found.nodes if node.usable]
        if found.state != "UP" or not usable:
            why = f"is {found.state}" if found.state != "UP" else f"has no usable node (of {len(found.nodes)})"
            yield fail("partition", f"{name} {why}; wait, or set {variable} to another one of {', '.join(names)}")
            continue
        now.partitions[name] = now.partitions[wanted or ""] = found
        limit = "none" if found.max_minutes is None else f"{found.max_minutes} min"
        gpus = f", {sum(node.gpus for node in usable)} GPUs" if any(node.gpus for node in usable) else ""
        yield ok("partition", f"{name} is up: {len(usable)} of {len(found.nodes)} nodes{gpus}, time limit {limit}")


def _partition_variable(now: CheckedSetup, name: str | None) -> str:
    of_distributed = now.profile.launch.site.get("partition")
    of_attacks = now.profile.defaults.get("slurm_partition")
    if name == of_distributed and of_distributed != of_attacks:
        return f"HARDSCALE_DISTRIBUTED_PARTITION (distributed_partition in {now.profile.path})"
    return f"HARDSCALE_PARTITION (slurm_partition in {now.profile.path})"


def jobs(now: CheckedSetup) -> Iterator[CheckResult]:
    """Whether the study's largest jobs fit a node, and whether sbatch takes them."""
    for demand in now.demands:
        found = now.partitions.get(demand.partition or "")
        if found is None:
            continue
        asked = _asked(demand)
        reasons = misfits(demand, found)
        refusal = refused(demand)
        said = f" (sbatch: {refusal!r})" if refusal else ""
        if reasons:
            for text, key in reasons:
                yield fail(demand.rule, f"{demand.label}: {text}; set {key}{said}")
        elif refusal:
            yield fail(demand.rule, f"{demand.label} ({asked}): sbatch: {refusal!r}; set {_cause(now, refusal)}")
        else:
            yield ok(demand.rule, f"{demand.label}: {asked}: sbatch takes it")
    yield from _retries(now)


def _retries(now: CheckedSetup) -> Iterator[CheckResult]:
    retries = now.profile.number("retries", 0)
    refused_at_first = {demand.rule for demand in now.demands if _fails(now, demand)}
    for demand in demands(now.study, now.profile, attempt=retries + 1) if retries else []:
        if demand.rule not in refused_at_first and _fails(now, demand):
            text, key = misfits(demand, now.partitions[demand.partition or ""])[0]
            yield warn(demand.rule, f"{demand.label}: at attempt {retries + 1} {text}; set {key}, or fewer retries")


def _fails(now: CheckedSetup, demand: Demand) -> bool:
    found = now.partitions.get(demand.partition or "")
    return found is not None and bool(misfits(demand, found))


def _asked(demand: Demand) -> str:
    nodes = f"{demand.nodes} nodes with " if demand.nodes > 1 else ""
    gpus = f", {demand.gpus} GPUs" if demand.gpus else ""
    return f"{nodes}{demand.cpus * demand.tasks} CPUs, {demand.mem_mb} MB{gpus}, {demand.minutes} min"


def misfits(demand: Demand, found: Partition) -> list[tuple[str, str]]:
    """Why a job fits no node of a partition: the reason and the key to set."""
    site = "a correction in the file of HARDSCALE_SITE"
    reasons = []
    if found.max_minutes is not None and demand.minutes > found.max_minutes:
        text = f"asks for {demand.minutes} min, the limit of {found.name} is {found.max_minutes}"
        reasons.append((text, f"runtime: {found.max_minutes} ({site}), or another partition"))
    usable = [node for node in found.nodes if node.usable]
    for asked, have, what, key in (
        (demand.mem_mb, [node.mem_mb for node in usable], "MB of memory on a node", "mem_mb"),
        (demand.cpus * demand.tasks, [node.cpus for node in usable], "CPUs on a node", "ranks_per_node"),
        (demand.gpus, [node.gpus for node in usable], "GPUs on a node", "gpus_per_node"),
    ):
        if asked > max(have):
            text = f"asks for {asked} {what}, the largest of {found.name} has {max(have)}"
            where = site if key == "mem_mb" else "in the file of HARDSCALE_SITE"
            reasons.append((text, f"{key} ({where}), or another partition"))
    if not reasons:
        fit = [
            node
            for node in usable
            if node.mem_mb >= demand.mem_mb and node.cpus >= demand.cpus * demand.tasks and node.gpus >= demand.gpus
        ]
        if len(fit) < demand.nodes:
            text = f"asks for {demand.nodes} nodes of {_asked(demand)}, {found.name} has {len(fit)}"
            reasons.append((text, f"nodes ({site}) or ranks in the study"))
    return reasons


def refused(demand: Demand) -> str | None:
    """What sbatch says against a job; None when it would take it."""
    done = cluster.call("sbatch", "--test-only", *demand.options(), "--wrap=true")
    return cluster.complaint(done).removeprefix("allocation failure: ") if done.returncode else None


def _cause(now: CheckedSetup, refusal: str) -> str:
    known = _accounts()
    accounts = f" to one of yours: {', '.join(known)}" if known else ""
    for word, key in _CAUSES:
        if word in refusal.lower():
            return key.format(profile=now.profile.path, accounts=accounts)
    return f"what it names in {now.profile.path}"


def _accounts() -> list[str]:
    """Accounts of this user; none where there is no accounting."""
    if shutil.which("sacctmgr") is None:
        return []
    import getpass

    words = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}"]
    done = cluster.call(*words, "format=account")
    return list(dict.fromkeys(done.stdout.split())) if done.returncode == 0 else []


def status(now: CheckedSetup) -> Iterator[CheckResult]:
    """How the controller of the study will learn that jobs ended."""
    wanted = now.profile.values.get("slurm-status-command")
    first = now.profile.number("slurm-init-seconds-before-status-checks", 40)
    age = cluster.seconds(now.config.get("MinJobAge", "")) or 0
    recorded = _sacct_works()
    remembered = age >= 3 * first
    knows = "sacct answers" if recorded else "no accounting"
    if wanted == "squeue" and remembered:
        yield ok("status", f"{knows}; squeue remembers ended jobs for {age} s: slurm-status-command: squeue")
    elif wanted == "squeue" and recorded:
        yield fail("status", f"squeue forgets ended jobs after {age} s; set slurm-status-command: sacct")
    elif wanted == "squeue":
        key = f"slurm-init-seconds-before-status-checks: {max(1, age // 3)}"
        yield fail("status", f"no accounting, and squeue forgets ended jobs after {age} s; set {key}")
    elif recorded:
        yield ok("status", f"sacct answers: slurm-status-command: {wanted or 'sacct'}")
    else:
        said = f"found {wanted!r}, but sacct has no accounting to ask and the study would wait forever"
        yield fail("status", f"slurm-status-command: {said}; set it to squeue")


def _sacct_works() -> bool:
    if shutil.which("sacct") is None:
        return False
    try:
        return cluster.call("sacct", "--noheader", "--allocations", "--starttime=now").returncode == 0
    except NoAnswer:
        return False


def requeue(now: CheckedSetup) -> Iterator[CheckResult]:
    """What happens to jobs that are preempted or lose their node."""
    if now.config.get("JobRequeue", "1") != "1" and not now.profile.values.get("slurm-requeue"):
        yield warn("requeue", "JobRequeue is 0 here: a job that loses its node is lost; set slurm-requeue: true")
    else:
        yield ok("requeue", "jobs that lose their node go back into the queue")
    for found in dict.fromkeys(now.partitions.values()):
        if "CANCEL" in found.preempt_mode:
            yield warn(
                "preemption",
                f"{found.name} cancels preempted jobs: distributed ones are submitted again and resume, "
                "attacks take one of their retries",
            )


def disk(now: CheckedSetup) -> Iterator[CheckResult]:
    """Space for the results against the estimate of all models and checkpoints."""
    from hardscale.plan.paths import StudyPaths

    root = StudyPaths(now.study.name).root
    place = next(path for path in (root, *root.absolute().parents) if path.is_dir())
    used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 10**6 if root.is_dir() else 0
    free = shutil.disk_usage(place).free // 10**6
    asked = disk_mb(now.study)
    where = f"{Path.cwd()}: {_gb(free)} free, the study takes up to about {_gb(asked)}"
    if free + used < asked:
        yield fail("disk", f"{where}; make room, or run elsewhere (--directory)")
    else:
        yield ok("disk", where)


def _gb(megabytes: int) -> str:
    return f"{megabytes / 1000:.1f} GB"


@dataclass(frozen=True)
class CheckResult:
    """One line: how bad, what it is about, and for all that is not ok which key or variable to set."""

    level: Level
    topic: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:4}  {self.topic}: {one_line(self.text)}"


def ok(topic: str, text: str) -> CheckResult:
    """All is well."""
    return CheckResult("ok", topic, text)


def warn(topic: str, text: str) -> CheckResult:
    """The study will run, with a caveat."""
    return CheckResult("warn", topic, text)


def fail(topic: str, text: str) -> CheckResult:
    """It will not run."""
    return CheckResult("FAIL", topic, text)


def verdict(findings: list[CheckResult]) -> str:
    """The last line."""
    counts = {level: sum(finding.level == level for finding in findings) for level in ("ok", "warn", "FAIL")}
    if counts["FAIL"]:
        things = "thing" if counts["FAIL"] == 1 else "things"
        return f"slurm-check: {counts['FAIL']} {things} to fix before a study can run here"
    warnings = f", {counts['warn']} to know about" if counts["warn"] else ""
    return f"slurm-check: ready ({counts['ok']} ok{warnings})"
