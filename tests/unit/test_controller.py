"""One controller in a working directory: who is refused, who takes over, how a run ends when it is told to."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hardscale.artifacts.locks import Heartbeat, Owner, read_owner
from hardscale.ops import controller
from hardscale.ops.controller import LOCK, LOOKING_ON, NOTE, cancel_left, claim, only_looks
from hardscale.ops.outcome import BUSY
from hardscale.runtime import slurm_queue
from hardscale.runtime.slurm_queue import SlurmJob
from waiting import HANG_SECONDS, wait_until

SCRIPTS = Path(__file__).parents[2] / "scripts"
CLAIM = """
import sys, time
from pathlib import Path
from hardscale.ops.controller import claim
claim(Path(".snakemake"), sys.argv[1:])
print("claimed", flush=True)
sys.stdin.read()
"""
#: Would wait for ever where it waits for a sign of life.
PATIENT = CLAIM.replace(
    "claim(Path", "import hardscale.ops.controller as this\nthis._PATIENCE_SECONDS = 1e9\nclaim(Path"
)
SLEEPER = """
import os, signal, subprocess, sys, time
def told(signum, frame):
    time.sleep(0.5)
    open(sys.argv[1] + ".told", "w").write(str(signum))
    sys.exit(143)
signal.signal(signal.SIGTERM, told)
if len(sys.argv) == 2:
    below = subprocess.Popen([sys.executable, __file__, sys.argv[1] + ".below", "-"])
open(sys.argv[1] + ".began", "w").write(str(os.getpid()))
try:
    time.sleep(3600)
finally:
    if len(sys.argv) == 2:
        below.kill()
"""
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
from hardscale.ops.controller import claim, stop_on_signals
if workflow.is_main_process:
    claim()
onstart:
    stop_on_signals()
rule all:
    output: "done"
    shell: "python sleeper.py sleeper && touch {{output}}"
"""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**kept, "PYTHONPATH": str(SCRIPTS), **more}


class Claimed:
    """A process that claimed a folder, or failed to."""

    def __init__(self, folder: Path, code: str = CLAIM, **more: str) -> None:
        command = [sys.executable, "-c", code, "--cores", "1"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=folder, env=environment(**more), text=True, **pipes)
        assert self.process.stdout is not None
        self.claimed = self.process.stdout.readline() == "claimed\n"

    def end(self) -> str:
        """What it said until its end, which is an orderly one."""
        return self.process.communicate("")[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def write_note(folder: Path, age: float = 0.0, **changes: object) -> Owner:
    """The note of another host's controller."""
    (folder / ".snakemake").mkdir(exist_ok=True)
    owner = replace(Owner.me(), host="elsewhere", pid=4, started="then", slurm_job=None, **changes)  # type: ignore[arg-type]
    note = folder / ".snakemake" / NOTE
    note.write_text(json.dumps(asdict(owner)))
    os.utime(note, (time.time() - age, time.time() - age))
    return owner


def fake_slurm(folder: Path, state: str) -> str:
    """A PATH on which squeue knows job 77 in a state."""
    folder.mkdir()
    rows = "\\037".join(["77", state, "name", "", "", "", "", ""])
    for name in ("squeue", "sbatch"):
        path = folder / name
        path.write_text(f"#!/bin/sh\nprintf '{rows}\\n'\n")
        path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_a_second_controller_leaves_at_once_and_names_the_first(tmp_path: Path) -> None:
    first = Claimed(tmp_path, SLURM_JOB_ID="12")
    assert first.claimed
    owner = read_owner(tmp_path / ".snakemake" / NOTE)
    assert owner is not None and owner.pid == first.process.pid and owner.slurm_job == 12
    second = Claimed(tmp_path, PATIENT)  # a living holder is not waited for
    said = second.end()
    assert not second.claimed and second.process.returncode == BUSY == 75
    [line] = said.splitlines()
    for word in (f"pid {first.process.pid}", owner.host, owner.since, "Slurm job 12", "scancel 12", str(tmp_path)):
        assert word in line
    assert first.end() == "" and first.process.returncode == 0
    assert not (tmp_path / ".snakemake" / NOTE).exists()
    third = Claimed(tmp_path)
    assert third.claimed and third.end() == ""


def test_a_killed_controller_is_followed_and_its_locks_are_removed(tmp_path: Path) -> None:
    # A program that the controller started lives on; it must not hold the controller's lock.
    child = (
        'import subprocess; child = subprocess.Popen(["sleep", "3600"], close_fds=False)\n'
        "print(child.pid, file=sys.stderr, flush=True)"
    )
    first = Claimed(tmp_path, CLAIM.replace("print(", f"{child}\nprint(", 1))
    assert first.claimed and first.process.stderr is not None
    sleeping = int(first.process.stderr.readline())
    first.kill()
    try:
        locks = tmp_path / ".snakemake" / "locks"
        locks.mkdir()
        (locks / "0.output.lock").write_text("results/a\n")
        second = Claimed(tmp_path)
        assert second.claimed
        [line] = second.end().splitlines()
        assert str(tmp_path) in line and "unlocked" in line
        assert not locks.exists()
    finally:
        os.kill(sleeping, signal.SIGKILL)


def test_locks_without_a_dead_controller_are_anothers(tmp_path: Path) -> None:
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/a\n")
    run = Claimed(tmp_path)
    assert run.claimed and run.end() == ""
    assert lock.exists()


@pytest.mark.parametrize(("age", "claimed"), [(0.0, False), (240.0, False), (400.0, True)])
def test_a_controller_on_another_host_lives_while_its_note_is_young(tmp_path: Path, age: float, claimed: bool) -> None:
    write_note(tmp_path, age)
    run = Claimed(tmp_path)
    said = run.end()
    assert run.claimed == claimed
    assert ("host elsewhere, pid 4" in said) != claimed


def test_a_note_from_the_future_holds_no_longer_than_any_other(tmp_path: Path) -> None:
    write_note(tmp_path, -86_400.0)
    note = tmp_path / ".snakemake" / NOTE
    before = time.time()
    assert not Claimed(tmp_path).claimed
    stamped = note.stat().st_mtime
    assert before - 1 <= stamped <= time.time() + 1  # from now on its silence counts
    os.utime(note, (stamped - 400, stamped - 400))
    run = Claimed(tmp_path)
    assert run.claimed and run.end() == ""


@pytest.mark.parametrize(
    ("state", "age", "claimed"),
    [
        ("COMPLETED", 0.0, True),
        ("CANCELLED", 0.0, True),
        ("RUNNING", 0.0, False),
        ("RUNNING", 400.0, True),
        ("SUSPENDED", 400.0, False),
    ],
)
def test_slurm_is_asked_about_a_controller_that_is_a_job(tmp_path: Path, state: str, age: float, claimed: bool) -> None:
    note = write_note(tmp_path, age)
    path = tmp_path / ".snakemake" / NOTE
    path.write_text(replace(note, slurm_job=77).text)
    os.utime(path, (time.time() - age, time.time() - age))
    run = Claimed(tmp_path, PATH=fake_slurm(tmp_path / "bin", state))
    said = run.end()
    assert run.claimed == claimed
    assert ("Slurm job 77" in said and "scancel 77" in said) != claimed


def test_a_requeued_controller_follows_itself(tmp_path: Path) -> None:
    note = replace(write_note(tmp_path), slurm_job=77, restarts=0)
    (tmp_path / ".snakemake" / NOTE).write_text(note.text)
    same = Claimed(tmp_path, SLURM_JOB_ID="77", PATH=fake_slurm(tmp_path / "bin", "RUNNING"))
    assert same.end() and not same.claimed
    requeued = Claimed(tmp_path, SLURM_JOB_ID="77", SLURM_RESTART_COUNT="1", PATH=os.environ["PATH"])
    assert requeued.claimed
    requeued.end()


def test_without_locks_the_note_alone_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    first = Claimed(tmp_path)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(controller, "_held", {})
    with pytest.raises(SystemExit) as left:
        claim(tmp_path / ".snakemake", ["--cores", "1"])
    assert left.value.code == BUSY
    assert f"pid {first.process.pid}" in capsys.readouterr().err
    first.end()


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".snakemake").write_text("a file")
    run = Claimed(tmp_path)
    [line] = run.end().splitlines()
    assert line.startswith("error: ") and str(tmp_path / ".snakemake") in line
    assert run.process.returncode == 1


def test_a_note_is_kept_young(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text("a")
    os.utime(note, (1, 1))
    handle = os.open(note, os.O_RDWR)
    heart = Heartbeat(handle, 0.02)
    before = time.time()
    wait_until(lambda: note.stat().st_mtime >= 2, "a beat")
    heart.stop()
    os.close(handle)
    assert before - 1 <= note.stat().st_mtime <= time.time() + 1


# --- command lines --------------------------------------------------------------------------------------------------


def options_of_snakemake() -> list[tuple[list[str], bool]]:
    """Names of every option of Snakemake, and whether it stands without a value."""
    from snakemake.cli import get_argument_parser

    return [(action.option_strings, action.nargs == 0) for action in get_argument_parser()._actions]


def test_every_option_of_snakemake_is_understood() -> None:
    known = {name for names, _ in options_of_snakemake() for name in names}
    assert known >= LOOKING_ON
    for names, plain in options_of_snakemake():
        looks = bool(LOOKING_ON & set(names))
        for name in names:
            assert only_looks([name]) == looks, name
            if len(name) == 2 and not looks:
                # A letter with a value takes the rest of the word for it.
                assert only_looks([f"{name}n"]) == plain, name


@pytest.mark.parametrize(
    ("line", "looks"),
    [
        ("--cores 2", False),
        ("-n", True),
        ("-Fn --cores 2", True),
        ("-j2 results/a.png", False),
        ("-dn", False),
        ("--dry --cores 2", True),
        ("--report=results/report.html", True),
        ("--report r.html --report-after-run --cores 2", False),
        ("--report r.html --report-after-run -n", True),
        ("--touch", False),
        ("--cores 1 -- -n", False),
        ("--unlock", True),
        ("--config a=--lint", False),
    ],
)
def test_commands_that_run_nothing_claim_nothing(line: str, looks: bool) -> None:
    assert only_looks(line.split()) == looks


def test_a_look_is_never_refused(tmp_path: Path) -> None:
    first = Claimed(tmp_path)
    claim(tmp_path / ".snakemake", ["-n"])
    first.end()
    assert {path.name for path in (tmp_path / ".snakemake").iterdir()} == {LOCK}


# --- the end --------------------------------------------------------------------------------------------------------


def await_file(path: Path, process: subprocess.Popen[str]) -> None:
    wait_until(path.exists, path.name, [process])


def await_word(path: Path, word: str, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: word in path.read_text(), word, [process])


def test_jobs_that_slurm_still_has_of_an_ended_run_are_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "uuid-1": [SlurmJob(1, "RUNNING", "uuid-1"), SlurmJob(2, "COMPLETED", "uuid-1"), SlurmJob(3, "PENDING", "")]
    }
    cancelled: list[int] = []
    monkeypatch.setattr(slurm_queue, "available", lambda: True)
    monkeypatch.setattr(slurm_queue, "jobs", lambda name: known[name])
    monkeypatch.setattr(slurm_queue, "cancel", cancelled.append)
    for executor in (SimpleNamespace(), SimpleNamespace(run_uuid="uuid-1")):  # the local one has no name for its run
        cancel_left(SimpleNamespace(scheduler=SimpleNamespace(_executor=executor)))
    assert cancelled == [1, 3]


def test_a_run_that_ends_while_slurm_is_silent_says_what_goes_on(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def jobs(name: str) -> list[SlurmJob]:
        raise slurm_queue.NoAnswer(f"squeue: no contact, asked for {name}")

    monkeypatch.setattr(slurm_queue, "available", lambda: True)
    monkeypatch.setattr(slurm_queue, "jobs", jobs)
    cancel_left(SimpleNamespace(scheduler=SimpleNamespace(_executor=SimpleNamespace(run_uuid="uuid-1"))))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Slurm does not answer (squeue: no contact, asked for uuid-1): jobs that it has run on")


def test_a_terminated_run_stops_its_jobs_and_then_itself(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    with (tmp_path / "text").open("w") as out:
        run = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=out, stderr=out, text=True, start_new_session=True
        )
    try:
        await_file(tmp_path / "sleeper.below.began", run)
        await_file(tmp_path / "sleeper.began", run)
        run.terminate()
        await_word(tmp_path / "text", "Terminating processes on user request", run)
        run.terminate()  # an impatient one changes nothing
        status = run.wait(HANG_SECONDS)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    text = (tmp_path / "text").read_text()
    assert status == 1, text
    assert "non-zero exit status 143" in text and "Traceback" not in text
    # The job was told and waited for; what the job itself had started was left to it.
    assert (tmp_path / "sleeper.told").read_text() == str(int(signal.SIGTERM))
    assert not (tmp_path / "sleeper.below.told").exists()
    assert not list((tmp_path / ".snakemake").glob("locks/*"))
    assert not (tmp_path / ".snakemake" / NOTE).exists()
