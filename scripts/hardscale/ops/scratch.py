"""A working directory of its own for jobs that are made again, with the originals as their inputs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hardscale.artifacts.manifest import MANIFEST, verify
from hardscale.ops.outcome import BUSY, StoppedError

#: The repository: where the Snakefile and the profiles are.
REPOSITORY = Path(__file__).resolve().parents[3]
RUNS = "runs"
_OWN = frozenset({"results", RUNS})
#: An exception as Python prints it; those of Snakemake only say that a job failed.
_RAISED = re.compile(r"(?!CalledProcessError|WorkflowError|RuleException)[A-Za-z_.]*(Error|Exception): \S")


@dataclass(frozen=True)
class Workflow:
    """How Snakemake is called.

    Attributes:
        study: the study file.
        options: passed on as they are: profile, cores.
    """

    study: Path
    options: tuple[str, ...] = ()

    def run(self, directory: Path, log: Path, arguments: Sequence[str]) -> int:
        """Run Snakemake in a working directory, everything it says going to ``log``; its exit status.

        Raises:
            StoppedError: another controller runs in that directory; its words are passed on.
        """
        # Lists of names come first: an option after them ends them.
        command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(REPOSITORY / "Snakefile")]
        command += ["--configfile", str(self.study), "--directory", str(directory), *self.options]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            start = file.tell()
            status = _call(command, file)
        if status == BUSY:
            raise StoppedError(last_error(log, start) or f"{directory}: another controller runs there", BUSY)
        return status


def _call(command: Sequence[str], output: IO[bytes]) -> int:
    """Run a command; what stops this process stops the command first, which takes its jobs with it."""
    received: list[int] = []
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT) as process:

        def stop(signum: int, frame: Any) -> None:  # noqa: ARG001
            received.append(signum)
            if signum != signal.SIGINT:  # Ctrl-C reaches the command by itself
                process.send_signal(signum)

        names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {name: signal.signal(name, stop) for name in names}
        try:
            status = process.wait()
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
    if received:
        word = signal.Signals(received[0]).name
        raise StoppedError(f"stopped by {word} before anything was compared; run it again", 128 + received[0])
    return status


def last_error(log: Path, start: int = 0) -> str:
    """What a log says last of what went wrong: an error line of ours, else an exception, else its last words."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    ours = [line.partition("error: ")[2] for line in lines if "error: " in line]
    raised = [line for line in lines if _RAISED.match(line)]
    return [*lines[-1:], *raised, *ours][-1] if lines else ""


def link_surroundings(directory: Path, scratch: Path) -> None:
    """Let relative paths of a study (tables, models, data) mean the same in ``scratch`` as in ``directory``."""
    scratch.mkdir(parents=True, exist_ok=True)
    for entry in directory.iterdir():
        link = scratch / entry.name
        if entry.name in _OWN or entry.name.startswith(".") or link.is_symlink() or link.exists():
            continue
        link.symlink_to(entry.resolve(), target_is_directory=entry.is_dir())


def provide(folder: Path, directory: Path, scratch: Path) -> None:
    """Put a verified artifact of ``directory`` into ``scratch`` at the same place.

    Its files are links, which cost nothing and cannot be written to by a job (jobs replace folders, never files). The
    manifest is a copy with the time of now, so that the age of the original stays what it is.

    Raises:
        ArtifactError: the artifact is damaged.
    """
    source, target = directory / folder, scratch / folder
    if (target / MANIFEST).is_file():
        return
    verify(source)
    for name, _, files in os.walk(source):
        part = target / Path(name).relative_to(source)
        part.mkdir(parents=True, exist_ok=True)
        for file in files:
            if file != MANIFEST:
                (part / file).symlink_to((Path(name) / file).resolve())
    shutil.copyfile(source / MANIFEST, target / MANIFEST)
