"""Whole studies run by Snakemake from a copy of the sources, in folders of their own, without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("Snakefile", "config.yaml", "workflow", "scripts", "studies", "envs", "profiles")
#: Nobody listens there: whoever asks the network is refused at once.
_NO_NETWORK = "http://127.0.0.1:9"


def copy_sources(target: Path) -> Path:
    """The sources of the workflow, so that a run is of one version and shows if it writes among them."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignore)
        else:
            shutil.copy2(source, target / name)
    (target / "slurm").symlink_to("profiles/slurm")  # what makes `--profile slurm` work in a fresh clone
    return target


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """This environment without its settings of ours and of the hub, offline, with an empty cache of the hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HARDSCALE_"))}
    network = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _NO_NETWORK)
    ours = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub-cache"), "OMP_NUM_THREADS": "1"}
    return {**kept, **network, **ours, **extra}


@dataclass(frozen=True)
class Finished:
    """How a command ended and all that it wrote to the terminal."""

    status: int
    text: str

    @property
    def errors(self) -> list[str]:
        """Our own error lines: those of jobs start with the job's name in brackets."""
        return [line for line in self.text.splitlines() if re.match(r"(\[[^]]*\] )?error: ", line)]

    def refused(self, *words: str) -> str:
        """Check that the command failed with one line that holds all words, and without a trace; the line."""
        assert self.status != 0, self.text
        assert "Traceback" not in self.text, self.text
        assert len(self.errors) == 1, self.text
        missing = [word for word in words if word not in self.errors[0]]
        assert not missing, f"{missing} not in {self.errors[0]}"
        return self.errors[0]


def call(command: list[str], folder: Path, cwd: Path | None = None, **extra: str) -> Finished:
    """Run a command in a folder."""
    done = subprocess.run(
        command,
        cwd=cwd or folder,
        env=environment(folder, **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    return Finished(done.returncode, done.stdout)


@dataclass(frozen=True)
class StudyRun:
    """A study and the folder that it is run in.

    Attributes:
        sources: copy of the sources.
        config: the study file.
        folder: where ``results`` are made.
    """

    sources: Path
    config: Path
    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.config.stem

    def command(self, *options: str) -> list[str]:
        """``snakemake --configfile STUDY --directory FOLDER --cores 1 ...``, to be called in the sources."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "snakemake", "--configfile", str(self.config)]
        return [*command, "--directory", str(self.folder), "--cores", "1", *options]

    def snakemake(self, *options: str, **extra: str) -> Finished:
        """Run Snakemake on the study; ``extra`` goes into its environment."""
        return call(self.command(*options), self.folder, self.sources, **extra)

    def entry_command(self, name: str, *options: object) -> list[str]:
        """The command line of one of the scripts."""
        return [sys.executable, str(self.sources / "scripts" / f"{name}.py"), *map(str, options)]

    def entry(self, name: str, *options: object, **extra: str) -> Finished:
        """Run one of the scripts in the folder."""
        return call(self.entry_command(name, *options), self.folder, **extra)

    def elsewhere(self, folder: Path) -> StudyRun:
        """The same study, to be run in another folder."""
        return StudyRun(self.sources, self.config, folder)
