"""The jobs of a study that publish artifacts, and a seeded choice of some of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST, artifact_folder
from hardscale.artifacts.seeds import derive_seed
from hardscale.ops.outcome import StoppedError
from hardscale.plan.jobs import Jobs
from hardscale.plan.steps import plan

#: Kinds of jobs of which every sample holds one.
TRAINING, ATTACK, OTHER = "training", "attack", "other"


@dataclass(frozen=True)
class Unit:
    """One job: what it reads and publishes, as folders relative to the working directory.

    Attributes:
        rule: name of its rule.
        kind: training, attack or other.
    """

    rule: str
    kind: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]

    @property
    def finished(self) -> bool:
        """Whether everything it reads and publishes is there."""
        return all((folder / MANIFEST).is_file() for folder in (*self.inputs, *self.outputs))

    @property
    def targets(self) -> list[str]:
        """What to ask Snakemake for: one output stands for the job."""
        return [(self.outputs[-1] / MANIFEST).as_posix()]


def units(jobs: Jobs) -> Iterator[Unit]:
    """Every job of the study that publishes artifacts."""
    for step in plan(jobs):
        if all(Path(output).name == MANIFEST for output in step.outputs):
            yield Unit(step.rule, _kind(step.rule), _folders(step.inputs), _folders(step.outputs))


def _kind(rule: str) -> str:
    training = rule in ("pretrain", "finetune", "continuous") or rule.startswith(("adversarial_rounds_", "c_at_"))
    return TRAINING if training else ATTACK if rule == "attack" else OTHER


def _folders(manifests: Sequence[str]) -> tuple[Path, ...]:
    return tuple(map(artifact_folder, manifests))


def choose(all_units: Sequence[Unit], count: int, seed: int) -> list[Unit]:
    """``count`` finished jobs drawn with a seed, at least one of training and one attack among them.

    Raises:
        StoppedError: fewer than two are asked for, or no training or no attack is finished.
    """
    if count < 2:
        raise StoppedError(f"sample {count}: found {count}, must be at least 2: one training job and one attack")
    finished = [unit for unit in all_units if unit.finished]
    draw = random.Random(derive_seed(seed, "sample"))
    chosen = []
    for kind in (TRAINING, ATTACK):
        candidates = [unit for unit in finished if unit.kind == kind]
        if not candidates:
            raise StoppedError(f"sample: no finished {kind} job to make again; run snakemake first")
        chosen.append(draw.choice(candidates))
    rest = [unit for unit in finished if unit not in chosen]
    chosen += draw.sample(rest, min(count - len(chosen), len(rest)))
    order = {unit: i for i, unit in enumerate(all_units)}
    return sorted(chosen, key=order.__getitem__)
