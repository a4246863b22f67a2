"""A study under each setting of the libraries' instruction sets: what its models and tables are and what it costs.

Each setting runs in a folder of its own, from nothing, one job at a time. ``avx2``, ``portable`` and ``native`` are
what a study's ``instruction_set`` may be; the others are ``native`` with the libraries' own switches set by hand. Two
processors compute the same under a setting where the digests of its row are the same. Seconds are those of the jobs
(their benchmark files), on a quiet machine; ``--rounds`` interleaves the settings and takes each job's least.

Example:
    python benchmarks/instruction_sets.py --study studies/tiny.yaml --out /tmp/sets.json
    python benchmarks/instruction_sets.py --study config.yaml --settings avx2 native --out /tmp/sets.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from hardscale.runtime.instruction_set import NATIVE, PINNED, PORTABLE, switches
from hardscale.runtime.processor import processor

ROOT = Path(__file__).parents[1]
_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SETTINGS: dict[str, tuple[str, dict[str, str]]] = {
    "native": (NATIVE, {}),
    "native, ATen and oneDNN AVX2": (NATIVE, _AVX2),
    "native, ATen and oneDNN AVX2, MKL_CBWR=AVX2": (NATIVE, {**_AVX2, "MKL_CBWR": "AVX2"}),
    "native, ATen and oneDNN AVX2, MKL_CBWR=COMPATIBLE": (NATIVE, {**_AVX2, "MKL_CBWR": "COMPATIBLE"}),
    "avx2": (PINNED, {}),
    "portable": (PORTABLE, {}),
}
#: What the digests of a run are taken of.
_KINDS = {
    "round 0": "models/**/none/r00/model/*.safetensors",
    "all models": "models/**/*.safetensors",
    "attack rows": "attacks/**/attack.parquet",
    "runs": "tables/runs.parquet",
    "fits": "tables/fits.parquet",
    "claims": "tables/claims.parquet",
}


def run(study: Path, setting: str, folder: Path) -> dict[str, Any]:
    """One run from nothing: seconds by kind of job, and digests."""
    choice, given = SETTINGS[setting]
    kept = {name: value for name, value in os.environ.items() if name not in switches()}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    files = [] if study.resolve() == ROOT / "config.yaml" else ["--configfile", str(study.resolve())]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", str(folder), *files]
    with (folder / "log").open("w") as log:
        subprocess.run(
            [*command, "--config", f"instruction_set={choice}"],
            cwd=ROOT, env={**kept, **given, "PATH": path, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log, check=True,
        )  # fmt: skip
    root = folder / "results" / yaml.safe_load(study.read_text())["name"]
    return {"seconds": seconds(root), "digests": {name: digest(root, glob) for name, glob in _KINDS.items()}}


def digest(root: Path, glob: str) -> str:
    """First digits of one sha256: of the file itself where one matches, else of the digests of all in order."""
    found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.glob(glob))]
    if not found:
        raise SystemExit(f"{root}: nothing matches {glob}")
    return (found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest())[:16]


def seconds(root: Path) -> dict[str, float]:
    """Wall seconds of each job, by the path of its benchmark file."""
    times = {}
    for path in sorted((root / "benchmarks").rglob("*.tsv")):
        names, values = (line.split("\t") for line in path.read_text().splitlines()[:2])
        times[path.relative_to(root / "benchmarks").as_posix()] = float(values[names.index("s")])
    return times


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row for each setting. Seconds are the sum over jobs of the least of all rounds."""
    lines = [
        f"| processor | setting | {' | '.join(_KINDS)} | seconds |",
        f"|---|---|{'---|' * len(_KINDS)}---|",
    ]
    for setting, runs in found.items():
        cells = []
        for kind in _KINDS:
            digests = {one["digests"][kind] for one in runs}
            cells.append(f"`{digests.pop()}`" if len(digests) == 1 else "differs from run to run")
        least = sum(min(one["seconds"][job] for one in runs) for job in runs[0]["seconds"])
        lines.append(f"| {processor()} | {setting} | {' | '.join(cells)} | {least:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT / "studies" / "tiny.yaml")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file for the JSON")
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {setting: [] for setting in args.settings}
    for number in range(args.rounds):
        for setting in args.settings:
            with tempfile.TemporaryDirectory() as folder:
                found[setting].append(run(args.study, setting, Path(folder)))
            print(f"round {number + 1}: {setting} done", file=sys.stderr, flush=True)
    if args.out:
        args.out.write_text(json.dumps({"processor": processor(), "runs": found}, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
