"""What a gang runs and on what, as its driver is told it. Standard library only."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.errors import TrainingError

#: Environment variable with the site's defaults for gangs, made from the profile's ``default-resources``.
SITE = "HARDSCALE_SLURM"


@dataclass(frozen=True)
class Work:
    """A training job's ranks.

    Attributes:
        command: job of the worker, then its options.
        ranks: processes.
        label: of the lines on the terminal, and the comment of the Slurm job.
        threads: CPU threads of each rank.
        log: where the output of the ranks is appended.
        worker: module whose ``main(job, argv, meeting)`` every rank calls.
        identity: digest of what is trained; two drivers with the same one want the same result.
    """

    command: list[str]
    ranks: int
    label: str
    threads: int
    log: Path | None
    worker: str
    identity: str = ""


@dataclass(frozen=True)
class Allocation:
    """What a gang asks of Slurm.

    Attributes:
        nodes: nodes; the ranks are spread evenly.
        gpus: GPUs of the whole gang; 0 trains on CPUs.
        mem_mb: memory of one rank, MB.
        minutes: time limit.
        partition: None: the site's default.
        account: None: the user's default.
        qos: None: the default.
        extra: further options of sbatch, ``name -> value``.
    """

    nodes: int = 1
    gpus: int = 0
    mem_mb: int = 4_000
    minutes: int = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    extra: dict[str, Any] | None = None

    def ranks_per_node(self, ranks: int) -> int:
        """Ranks on each node.

        Raises:
            TrainingError: the ranks can not be spread evenly.
        """
        if self.nodes < 1 or ranks % self.nodes:
            raise TrainingError(f"nodes: found {self.nodes}, must divide the study's ranks ({ranks})")
        return ranks // self.nodes

    @classmethod
    def of_site(cls, nodes: int, gpus: int, mem_mb: int, minutes: int) -> Allocation:
        """The geometry of a job with the partition, account and options of the site."""
        site = json.loads(os.environ.get(SITE) or "{}")
        return cls(
            nodes=nodes,
            gpus=gpus,
            mem_mb=mem_mb,
            minutes=minutes,
            partition=site.get("partition"),
            account=site.get("account"),
            qos=site.get("qos"),
            extra=site.get("extra"),
        )
