"""How the distributed jobs of this run are started: on this machine, or by Slurm with the profile's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hardscale.errors import StudyError
from hardscale.plan.estimates import ResourceEstimates

#: Profile key among ``default-resources`` -> what a distributed job takes from it. The first that is given wins.
_KEYS = {
    "partition": ("distributed_partition", "slurm_partition"),
    "account": ("distributed_account", "slurm_account"),
    "qos": ("distributed_qos", "qos"),
}
_LAUNCHES = ("local", "slurm")
#: Begin of the keys of distributed jobs, and what it was before; the former one is read until the next version.
_NOW, _FORMER = "distributed_", "gang_"
#: Placeholder for the time limit of local runs, which ignore it.
_NO_LIMIT = 0


@dataclass(frozen=True)
class Launch:
    """How distributed jobs are started.

    Attributes:
        how: ``local`` or ``slurm``.
        site: partition, account, qos and further sbatch options of distributed jobs on Slurm.
        limited: whether the profile has default resources, so that jobs must say their run time and disk.
        renamed: a line for each renamed key of the profile.
    """

    how: str = "local"
    site: dict[str, Any] = field(default_factory=dict)
    limited: bool = False
    renamed: tuple[str, ...] = ()

    @classmethod
    def of_profile(cls, default_resources: Any) -> Launch:
        """Read from ``default-resources``: ``launch: slurm`` and what else there is for distributed jobs.

        Raises:
            StudyError: ``launch`` is neither ``local`` nor ``slurm``.
        """
        values, renamed = _with_new_names({name: _plain(value) for name, value in _items(default_resources).items()})
        how = values.get("launch", "local")
        if how not in _LAUNCHES:
            raise StudyError(f"default-resources: launch: found {how!r}, allowed are {', '.join(_LAUNCHES)}")
        site: dict[str, Any] = {}
        for key, names in _KEYS.items():
            given = [values[name] for name in names if values.get(name)]
            if given:
                site[key] = given[0]
        if values.get("distributed_extra"):
            site["extra"] = _options(values["distributed_extra"])
        return cls(how, site, limited=bool(set(values) - {"tmpdir"}), renamed=renamed)

    def threads(self, estimates: ResourceEstimates) -> Any:
        """Cores of a distributed job: its ranks here, one for the driver that waits for Slurm."""
        if self.how != "local":
            return 1
        ranks = estimates.study.ranks
        return ranks if isinstance(ranks, int) else estimates.ranks

    def resources(self, estimates: ResourceEstimates) -> dict[str, Any]:
        """Resources of a rule of distributed jobs."""
        asked = {"mem_mb": estimates.mem_mb, **self._limits(estimates), "launch": self.how}
        if self.how == "local":
            return {"runtime": _NO_LIMIT, **asked, "nodes": 1, "gpu": 0, "zero_stage": 0}
        return {
            **asked,
            "disk_mb": estimates.disk_mb,
            "nodes": estimates.nodes,
            "gpu": estimates.gpu,
            "zero_stage": estimates.zero_stage,
        }

    def device(self, estimates: ResourceEstimates) -> dict[str, Any]:
        """Resources of a job that Snakemake's executor runs."""
        more = {} if self.how == "local" else {"gpu": estimates.gpu, "nodes": 1}
        return {"mem_mb": estimates.mem_mb, **self._limits(estimates), **more}

    def _limits(self, estimates: ResourceEstimates) -> dict[str, Any]:
        # Each function among resources is called for every job of a plan, which is a tenth of a large one's time.
        return {"runtime": estimates.runtime} if self.limited or self.how != "local" else {}


def _items(default_resources: Any) -> Mapping[str, Any]:
    return dict(default_resources.items()) if default_resources is not None else {}


def _with_new_names(values: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Values under today's names, and a line for each that came under a former one."""
    old = [key for key in values if key.startswith(_FORMER)]
    lines = [f"note: default-resources: {key} is now {_NOW}{key.removeprefix(_FORMER)}; rename it" for key in old]
    renamed = {_NOW + key.removeprefix(_FORMER): values[key] for key in old}
    return {**renamed, **{key: value for key, value in values.items() if key not in old}}, tuple(lines)


def _plain(value: Any) -> str:
    """A default resource as it is written in the profile."""
    return str(getattr(value, "raw", value)).strip("'\"")


def _options(text: str) -> dict[str, Any]:
    """``--constraint=a --exclusive`` as submitit wants it."""
    pairs = (word.removeprefix("--").partition("=") for word in text.split())
    return {name: value or True for name, _, value in pairs}
