"""One controller in a working directory, and an orderly end of it. Standard library only.

Snakemake locks the files of a run, but its locks name no owner: they outlive a killed controller, and only a person can
say that they are stale. Here the controller itself is named, so a second one can say who is before it, and the locks of
a dead one are removed by the next.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hardscale.artifacts.locks import Owner, is_held, read_owner, sign, try_lock
from hardscale.ops.outcome import BUSY
from hardscale.ops.snakemake_metadata import SNAKEMAKE, locked
from hardscale.runtime import slurm_queue
from hardscale.untrusted.literal import one_line

NOTE = "controller.json"
LOCK = "controller.lock"

_BEAT_SECONDS = 30.0
_PATIENCE_SECONDS = 300.0
_SETTLE_SECONDS = 1.0

#: Snakemake's commands that run no job and change no result.
LOOKING_ON = frozenset(
    {
        *("--dry-run", "--dryrun", "--report", "--reporter", "--lint", "--unlock", "--summary", "--detailed-summary"),
        *("--list", "--list-rules", "--list-target-rules", "--lt", "--list-changes", "--lc", "--list-input-changes"),
        *("--li", "--list-params-changes", "--lp", "--list-untracked", "--lu", "--list-conda-envs", "--dag"),
        *("--rulegraph", "--filegraph", "--d3dag", "--cleanup-metadata", "--cm", "--print-compilation"),
        *("--generate-unit-tests", "--containerize", "--export-cwl", "--archive", "--help", "--version"),
    }
)
_LOOKING_ON_LETTERS = "nlSDhv"
#: One-letter options without a value: others may follow in the same word.
_PLAIN_LETTERS = "tkfFpa"
_RUNS_FIRST = "--report-after-run"

_SHELLS = {"bash", "sh", "dash", "zsh", "ksh"}
_SLURM = {"sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "sacctmgr"}

_held: dict[Path, int] = {}
#: A note on another host that is older than this is a dead controller's, unless Slurm knows better.
_SILENT_SECONDS = 300.0


def claim(folder: Path = Path(".snakemake"), argv: Sequence[str] | None = None) -> None:
    """Become the controller of a working directory until this process ends.

    Read-only commands do not claim the folder. What a killed controller left locked is unlocked.

    Args:
        folder: Snakemake's folder in the working directory.
        argv: Snakemake's options; those of this process when None.

    Raises:
        SystemExit: status 75 and a line that names the other controller, or 1 when the folder cannot be written.
    """
    if only_looks(sys.argv[1:] if argv is None else argv):
        return
    folder = folder.absolute()
    if folder in _held:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)  # Python closes it in every child
        got = try_lock(handle)
        if got is False or _before(folder, got is None):
            os.close(handle)
            _refuse(folder)
        stale = (folder / NOTE).exists()
        _held[folder] = handle
        _sign(folder)
    except OSError as error:
        _stop(f"{error.filename or folder}: {error.strerror}; fix it, or work elsewhere with --directory", 1)
    if stale:
        _unlock(folder)


def only_looks(argv: Sequence[str]) -> bool:
    """Whether a command line of Snakemake runs no job and changes no result."""
    options = []
    for word in argv:
        if word == "--":
            break
        options.append(word)
    runs_first = _RUNS_FIRST in options
    return any(_looks(word, runs_first) for word in options)


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does.

    Snakemake's own answer to SIGTERM is to wait for all running jobs. Called when it has set that up (``onstart``).
    Local jobs are told first: Ctrl-C reaches them by itself, a signal to the controller alone does not.
    """
    received: list[int] = []

    def stop(signum: int, frame: Any) -> None:  # noqa: ARG001
        received.append(signum)
        if len(received) == 1:
            threading.Thread(target=_tell_jobs, daemon=True, name="tell-jobs").start()
            raise KeyboardInterrupt

    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, stop)


def cancel_left(workflow: Any) -> None:
    """Cancel Slurm jobs that a run which ends early has left (``onerror``).

    Snakemake's executor cancels the jobs that it knows at that moment, without those whose state it is just asking for
    or whose number it is just told.
    """
    run = getattr(getattr(workflow.scheduler, "_executor", None), "run_uuid", None)
    if run and slurm_queue.available():
        try:
            for job in slurm_queue.jobs(name=run):
                if job.live:
                    slurm_queue.cancel(job.id)
        except slurm_queue.NoAnswer as error:
            said = f"Slurm does not answer ({error}): jobs that it has run on; the next run waits for those that run"
            print(one_line(f"{said} and cancels the rest"), file=sys.stderr)


def _tell_jobs() -> None:
    told: set[int] = set()
    while True:  # a job that was just about to start is seen the next time
        for pid in set(local_jobs()) - told:
            told.add(pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)


def local_jobs() -> list[int]:
    """The programs that this process runs through shells: neither the shells nor what those programs started."""
    import psutil  # a requirement of Snakemake itself

    found = []
    waiting = _children(psutil.Process())
    while waiting:
        process = waiting.pop()
        with contextlib.suppress(psutil.Error):
            name = process.name()
            below = _children(process) if name in _SHELLS else []
            waiting += below
            if not below and name not in _SLURM:
                found.append(process.pid)
    return sorted(found)


def _children(process: Any) -> list[Any]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return process.children()
    return []


def _looks(word: str, runs_first: bool) -> bool:
    if word.startswith("--"):
        name = word.partition("=")[0]
        # Like argparse, which takes the start of an option for it.
        meant = [name] if name in LOOKING_ON else [option for option in LOOKING_ON if option.startswith(name)]
        return any(not (runs_first and option in ("--report", "--reporter")) for option in meant)
    if word.startswith("-"):
        for letter in word[1:]:
            if letter in _LOOKING_ON_LETTERS:
                return True
            if letter not in _PLAIN_LETTERS:
                return False
    return False


def _before(folder: Path, without_locks: bool) -> bool:
    """Whether a note speaks of a living controller although its lock is free: it is on a host without our locks."""
    owner = read_owner(folder / NOTE)
    if owner is None or (owner.near and not without_locks):
        return False
    return is_held(folder / NOTE, owner, folder / LOCK, _PATIENCE_SECONDS)


def _sign(folder: Path) -> None:
    """Say who we are, refresh the note's timestamp, remove it at the end."""
    me = Owner.me()
    sign(folder / NOTE, me, _BEAT_SECONDS)
    atexit.register(_leave, folder / NOTE, me)


def _leave(note: Path, me: Owner) -> None:
    if os.getpid() == me.pid and read_owner(note) == me:
        note.unlink(missing_ok=True)


def _unlock(folder: Path) -> None:
    """Remove the locks of Snakemake that a dead controller left."""
    locks = folder / "locks"
    if locks.is_dir() and any(locks.iterdir()):
        shutil.rmtree(locks, ignore_errors=True)
        print(one_line(f"the last controller of {folder.parent} ended without unlocking it; unlocked"), file=sys.stderr)


def _refuse(folder: Path) -> NoReturn:
    owner: Owner | None
    for owner in _notes(folder / NOTE):
        if not owner.near or owner.lives():
            break
    else:
        owner = None
    if owner is None:
        _stop(f"{folder.parent}: another controller is starting here; wait for it, then run again", BUSY)
    stop = f"kill {owner.pid}" if owner.slurm_job is None else f"scancel {owner.slurm_job}"
    where = "" if owner.near or owner.slurm_job is not None else f" on {owner.host}"
    _stop(
        f"{folder.parent}: another controller works here ({owner.described}); "
        f"wait for it, stop it by `{stop}`{where}, or work elsewhere with --directory",
        BUSY,
    )


def _notes(note: Path) -> Iterator[Owner]:
    """The note, again and again for a moment: a controller that has just got the lock has yet to sign."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        owner = read_owner(note)
        if owner is not None:
            yield owner
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _stop(line: str, status: int) -> NoReturn:
    print(f"error: {one_line(line)}", file=sys.stderr)
    raise SystemExit(status)


@dataclass(frozen=True)
class Controller:
    """A Snakemake run that holds the working directory, or did.

    Attributes:
        alive: None when that cannot be told.
        text: who and where, for people.
    """

    alive: bool | None
    text: str


def find_controller(folder: Path = SNAKEMAKE) -> Controller | None:
    """The controller of the working directory; None without a trace of one, or when it is this process."""
    owner = read_owner(folder / NOTE)
    if owner is None:
        return Controller(None, "a Snakemake run, by its locks; it may have been killed") if locked(folder) else None
    if owner.near and owner.pid == os.getpid():
        return None
    return Controller(is_held(folder / NOTE, owner, folder / LOCK, _SILENT_SECONDS), owner.described)
