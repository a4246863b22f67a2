"""A made-up results tree: artifacts of a few bytes with real manifests, logs, notes, marks; and a fake Slurm."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from hardscale.artifacts import publish
from hardscale.artifacts.manifest import MANIFEST
from hardscale.artifacts.publish import publishing
from hardscale.plan.jobs import Jobs
from hardscale.plan.steps import PlannedJob, output_folder, plan
from hardscale.settings.study import parse_study

STUDY = {
    "name": "s",
    "tasks": {"password_match": {}},
    "families": {
        "nano": {
            "source": "scratch",
            "scales": {
                "a": {"n_layers": 1, "width": 8, "n_heads": 1},
                "b": {"n_layers": 2, "width": 8, "n_heads": 1},
            },
        }
    },
    "grid": [{"tasks": ["password_match"], "families": ["nano"], "seeds": [0]}],
    "defenses": {"adv": {"rounds": 4, "rounds_per_job": 2, "attack": {"kind": "gcg"}}},
    "attacks": {"gcg": {"kind": "gcg"}, "random-token": {"kind": "random_token"}},
    "evaluate": [
        {"attacks": ["gcg"], "defenses": ["none", "adv"], "rounds": "last"},
        {"attacks": ["random-token"], "defenses": ["none"], "shards": 2},
    ],
}


def jobs_of(**changes) -> Jobs:
    return Jobs(parse_study({**STUDY, **changes}, "s.yaml"))


def steps_of(jobs: Jobs) -> dict[str, PlannedJob]:
    return {step.label: step for step in plan(jobs)}


def quick_publishing(monkeypatch) -> None:
    """Publishing without waiting for the disk and without looking up every package."""
    monkeypatch.setattr(publish, "sync", lambda path: None)
    monkeypatch.setattr(publish, "versions", dict)


def make(step: PlannedJob, kept: Iterable[str] | None = None, seconds: float | None = None) -> None:
    """Do a job: its outputs, and its benchmark when it took ``seconds``. ``kept`` are models with weights, else all."""
    for output in (*step.outputs, *(f"{folder}/{MANIFEST}" for folder in step.records)):
        publish_one(output, kept is None or output_folder(output) in kept)
    if seconds is not None:
        write(step.benchmark, f"s\th:m:s\n{seconds}\t0:00:00\n")


def publish_one(output: str, weights: bool = True) -> None:
    if not output.endswith(f"/{MANIFEST}"):
        write(output, "x")
        return
    folder = Path(output_folder(output))
    kind = folder.parts[2].rstrip("s")
    with publishing(folder, kind, {"of": str(folder)}) as draft:
        write(draft.path / "rows.parquet", "rows of " + str(folder))
        if kind in ("model", "base", "pretrained"):
            draft.note(has_weights=weights)
            if weights:
                write(draft.path / "model" / "model.safetensors", "w" * 5000)
                write(draft.path / "model" / "config.json", "{}")


def write(path: Path | str, text: str, age: float = 0.0) -> Path:
    """Write a file; ``age`` in seconds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if age:
        os.utime(path, (time.time() - age,) * 2)
        os.utime(path.parent, (time.time() - age,) * 2)
    return path


def mark(step: PlannedJob, number: str | None = None) -> None:
    """Snakemake's mark of a started job."""
    for output in step.outputs:
        code = base64.urlsafe_b64encode(output.encode()).decode()
        pieces = [code[i : i + 254] for i in range(0, len(code), 254)]
        path = Path(".snakemake/incomplete", *[f"@{piece}" for piece in pieces[:-1]], pieces[-1])
        write(path, json.dumps({"external_jobid": number}))


def note(step: PlannedJob, number: int) -> None:
    """The note of a distributed job on Slurm."""
    facts = {
        "job_id": number,
        "name": "hs-0123456789ab",
        "identity": "0123",
        "folder": f"{step.state}/ranks/submitit",
        "tasks": 2,
        "submitted": "2026-01-01T00:00:00+00:00",
        "host": "head",
    }
    write(f"{step.state}/job.json", json.dumps(facts))


def tree(folder: Path | str) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


class FakeSlurm:
    """``squeue`` on PATH that prints what it is told."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        script = f"#!/bin/sh\ncat {folder}/jobs\n"
        for name, text in {"squeue": script, "sbatch": "#!/bin/sh\nexit 1\n"}.items():
            write(folder / name, text).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        self.says()

    def says(self, *rows: tuple) -> None:
        """Rows: id, state, comment, nodes, reason, work dir (here when absent)."""
        lines = []
        for number, state, *more in rows:
            comment, nodes, reason, place = [*more, *["", "", "", str(Path.cwd())][len(more) :]]
            lines.append("\x1f".join([str(number), state, "name", reason, "batch", nodes, comment, place]))
        (self._folder / "jobs").write_text("".join(f"{line}\n" for line in lines))

    def fails(self) -> None:
        write(self._folder / "squeue", "#!/bin/sh\necho 'slurm_load_jobs error: no contact' >&2\nexit 1\n")
