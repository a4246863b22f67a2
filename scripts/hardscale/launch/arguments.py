"""Command lines of distributed jobs: the entry and its ranks read the same one. Standard library only."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import artifact_folder, canonical_json, read_manifest
from hardscale.errors import TrainingError
from hardscale.plan.table import TABLE, Training

#: Environment variable with the seconds that ranks wait for one that gives no sign of life.
PATIENCE = "HARDSCALE_PATIENCE_SECONDS"
#: Environment variable with the site's defaults for distributed jobs, made from the profile's ``default-resources``.
SITE = "HARDSCALE_SLURM"


def training_of(job: str) -> Training:
    """What the job table says of a distributed job."""
    training = TABLE[job].training
    assert training is not None
    return training


def parser(job: str) -> argparse.ArgumentParser:
    """The options of a job."""
    command = argparse.ArgumentParser(prog=f"{job}.py", allow_abbrev=False)
    command.add_argument("--spec", required=True, help="settings as JSON, or a file with them")
    training = training_of(job)
    for option, (help_text, count) in training.inputs.items():
        command.add_argument(f"--{option}", required=True, type=artifact_folder, nargs=count, help=help_text)
    command.add_argument("--state", required=True, type=Path, help="private folder for checkpoints, outside of outputs")
    out_help = "folder of the artifacts of all rounds" if training.several else "artifact to publish"
    command.add_argument("--out", required=True, type=artifact_folder, help=out_help)
    command.add_argument("--log", type=Path, help="log file; the terminal when absent")
    command.add_argument("--code", default="", help="digest of the code; a state of other code is not resumed")
    command.add_argument("--launch", default="local", choices=("local", "slurm", "debug"), help="how ranks are started")
    command.add_argument("--nodes", type=int, default=1, help="Slurm: nodes that the ranks are spread over")
    command.add_argument("--gpus", type=int, default=0, help="Slurm: GPUs of all ranks together")
    command.add_argument("--mem-mb", type=int, default=4_000, help="Slurm: memory of one rank")
    command.add_argument("--minutes", type=int, default=60, help="Slurm: time limit; a job resumes after it")
    command.add_argument("--threads", type=int, default=1, help="CPU threads of each rank")
    command.add_argument("--zero-stage", type=int, default=0, choices=(0, 1, 2, 3))
    command.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    command.add_argument("--micro-batch", type=int, help="rows of one forward pass on a rank; 32 when absent")
    command.add_argument("--save-seconds", type=float, default=60.0, help="training time between checkpoints")
    command.add_argument(
        "--patience-seconds",
        type=float,
        default=os.environ.get(PATIENCE, "1800"),
        help=f"until a rank that makes no progress ends the job; {PATIENCE} in the environment sets the default",
    )
    return command


def outputs(job: str, spec: dict[str, Any], out: Path) -> list[Path]:
    """The artifacts that a job publishes: ``out`` itself, or in it one for each round of the spec."""
    if not training_of(job).several:
        return [out]
    name = paths.MODEL.rpartition("/")[2]
    return [
        out / paths.fill(name, round=paths.round_number(number))
        for number in range(int(spec["first_round"]), int(spec["last_round"]) + 1)
    ]


def read_spec(text: str) -> dict[str, Any]:
    """The spec of a ``--spec`` option: JSON itself, or the name of a file that holds it.

    Raises:
        TrainingError: neither.
    """
    try:
        source = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        spec = json.loads(source)
    except (OSError, ValueError) as error:
        raise TrainingError(f"--spec: neither JSON nor a readable JSON file ({error})") from error
    if not isinstance(spec, dict):
        raise TrainingError(f"--spec: found {type(spec).__name__}, must be an object")
    return spec


def identity_of(job: str, spec: dict[str, Any], arguments: argparse.Namespace) -> str:
    """Digest of what a job trains: settings, inputs and code.

    Raises:
        ArtifactError: an input is not there or not whole.
    """
    inputs: dict[str, list[str]] = {}
    for option in training_of(job).inputs:
        folders = getattr(arguments, option)
        inputs[option] = [read_manifest(path)["self"] for path in (folders if isinstance(folders, list) else [folders])]
    content = {"job": job, "spec": spec, "inputs": inputs, "code": arguments.code}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


@dataclass(frozen=True)
class LaunchRequest:
    """What to launch: command, number of ranks, log.

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
    """What a distributed job asks of Slurm.

    Attributes:
        nodes: nodes; the ranks are spread evenly.
        gpus: GPUs of the whole distributed job; 0 trains on CPUs.
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
            TrainingError: the ranks cannot be spread evenly.
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
