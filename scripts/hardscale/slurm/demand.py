"""What the jobs of a study ask of Slurm: the largest of each rule, as their sbatch command lines will say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from hardscale.ops.cluster import gpus_of
from hardscale.ops.profile import Profile
from hardscale.plan.estimates import Needs
from hardscale.plan.jobs import Jobs
from hardscale.plan.paths import parse_part
from hardscale.settings.study import Study


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
    needs = Needs(study)
    return sum(needs.disk_mb(wildcards) for _, wildcards, _ in _gangs(Jobs(study)))


def _all(study: Study, profile: Profile, attempt: int) -> Iterator[Demand]:
    jobs = Jobs(study)
    needs = Needs(study, others=jobs.helpers.beside)
    if profile.launch.how == "slurm":
        for rule, wildcards, label in _gangs(jobs):
            yield _gang(rule, wildcards, label, needs, profile, attempt)
    if profile.values.get("executor") == "slurm":
        for wildcards, label in _attacks(jobs):
            yield _single("attack", wildcards, label, needs, profile, attempt)
        rated = needs.beside(jobs.measures.raters)
        for rule, wildcards, label in _measures(jobs):
            yield _single(rule, wildcards, label, rated if rule == "mt_bench" else needs, profile, attempt)


def _gangs(jobs: Jobs) -> Iterator[tuple[str, Any, str]]:
    """Rule, wildcards and label of every training job."""
    for family, scale in dict.fromkeys((cell.family, cell.scale) for cell in jobs.holdings.cells):
        if jobs.study.families[family].pretrain is not None:
            yield "pretrain", SimpleNamespace(family=family, scale=scale), f"{family}/{scale}"
    for cell in jobs.holdings.cells:
        if not jobs.study.is_chat(cell.task):
            yield "finetune", SimpleNamespace(cell=cell.key), cell.key
    for lineage in jobs.chat.trained():
        yield "continuous", SimpleNamespace(lineage=lineage.key), lineage.key
    for block in [*jobs.holdings.blocks, *jobs.chat.c_at_blocks]:
        for lineage in block.lineages:
            yield block.name, SimpleNamespace(lineage=lineage.key), lineage.key


def _attacks(jobs: Jobs) -> Iterator[tuple[Any, str]]:
    root = jobs.layout.root / "attacks"
    for folder in jobs.holdings.attack_folders():
        *lineage, number, part = folder.relative_to(root).parts
        wildcards = SimpleNamespace(lineage="/".join(lineage), round=number.removeprefix("r"), part=part)
        yield wildcards, f"{'/'.join(lineage)} with {parse_part(part)[0]}"


def _measures(jobs: Jobs) -> Iterator[tuple[str, Any, str]]:
    """Rule, wildcards and label of every job that measures the utility of a chat model."""
    for folder in [*jobs.chat.utility_folders(), *jobs.measures.folders()]:
        rule, *lineage, number = folder.relative_to(jobs.layout.root).parts
        wildcards = SimpleNamespace(lineage="/".join(lineage), round=number.removeprefix("r"))
        yield rule, wildcards, wildcards.lineage


def _gang(rule: str, wildcards: Any, label: str, needs: Needs, profile: Profile, attempt: int) -> Demand:
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


def _single(rule: str, wildcards: Any, label: str, needs: Needs, profile: Profile, attempt: int) -> Demand:
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
