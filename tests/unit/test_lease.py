"""Leases: one writer at a time, waiting, taking over from the dead, finding the work done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hardscale.artifacts import lease as lease_module
from hardscale.artifacts.lease import Held, lease
from hardscale.artifacts.locks import Owner, is_held, read_owner
from hardscale.artifacts.publish import publishing
from hardscale.errors import ArtifactError
from waiting import HANG_SECONDS, wait_until

SCRIPTS = Path(__file__).parents[2] / "scripts"
HOLD = """
import sys, time
from pathlib import Path
from hardscale.artifacts import lease as module
module._LOOK_SECONDS = 0.02
folder, place, journal, until = sys.argv[1:]
with module.lease(Path(folder), Path(place), "attack") as held:
    with open(journal, "a") as file:
        print("in", held.owner.pid, file=file, flush=True)
        while not Path(until).exists():
            time.sleep(0.02)
        print("out", held.owner.pid, file=file, flush=True)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_LOOK_SECONDS", 0.02)
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def hold(tmp_path: Path, until: str) -> subprocess.Popen[str]:
    """A process that holds the lease of ``out/gcg`` until a file is there."""
    command = [sys.executable, "-c", HOLD, "out/gcg", "leases", "journal", until]
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    return subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)


def journal(tmp_path: Path) -> list[list[str]]:
    path = tmp_path / "journal"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def leases(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "leases").glob("*.lease"))


def left_behind(tmp_path: Path, age: float = 0.0, **changes: object) -> tuple[Path, Owner]:
    """A lease of another host for ``out/gcg``."""
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack") as held:
        pass
    owner = replace(held.owner, host="elsewhere", pid=4, token="another", **changes)  # type: ignore[arg-type]
    held.path.write_text(owner.text)
    os.utime(held.path, (time.time() - age, time.time() - age))
    return held.path, owner


def test_a_lease_is_held_and_given_back(tmp_path: Path) -> None:
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack", "v1") as held:
        assert read_owner(held.path) == held.owner and held.owner.version == "v1" and not held.earlier
        assert held.path.name.startswith("out.gcg-")
        with lease(tmp_path / "out" / "other", tmp_path / "leases", "attack") as other:
            assert other.path != held.path
    assert not leases(tmp_path)


def test_it_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lease(tmp_path / "out", tmp_path / "leases", "attack"):
        raise KeyboardInterrupt
    assert not leases(tmp_path)


@pytest.fixture
def leaving() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("leaving")
@pytest.mark.parametrize("place", ["os.open", "os.write", "Heartbeat", "os.close", "read_owner", "Heartbeat.stop"])
@pytest.mark.parametrize("late", [False, True])
def test_told_to_end_while_it_takes_or_gives_back(
    place: str, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    *owner, name = place.split(".")
    home = {"": lease_module, "os": os, "Heartbeat": lease_module.Heartbeat}["".join(owner)]
    plain = getattr(home, name)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        done = plain(*args, **kwargs) if late else None
        if not told:
            told.append(place)
            signal.raise_signal(signal.SIGTERM)
        return done if late else plain(*args, **kwargs)

    monkeypatch.setattr(home, name, interrupted)
    with pytest.raises(SystemExit), lease(tmp_path / "out", tmp_path / "leases", "attack"):
        pass
    assert told and not leases(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_the_name_does_not_depend_on_where_the_folders_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "study" / "state").mkdir(parents=True)
    (tmp_path / "mount").symlink_to(tmp_path / "study")
    names = set()
    for root in (tmp_path / "study", tmp_path / "mount"):
        with lease(root / "attacks" / "r00" / "gcg", root / "state" / "leases", "attack") as held:
            names.add(held.path.name)
    assert len(names) == 1


def test_a_living_holder_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(tmp_path, "said")
    wait_until(lambda: journal(tmp_path))
    say = lease_module.say

    def say_and_let_go(line: str) -> None:
        say(line)
        (tmp_path / "said").touch()

    monkeypatch.setattr(lease_module, "say", say_and_let_go)
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack") as held:
        assert [line[0] for line in journal(tmp_path)] == ["in", "out"]
        assert [owner.pid for owner in held.earlier] == [first.pid]
    assert first.wait() == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and f"pid {first.pid}" in said[0] and "waiting" in said[0]


def test_of_many_that_wait_for_a_killed_holder_one_at_a_time_resumes(tmp_path: Path) -> None:
    first = hold(tmp_path, "never")
    wait_until(lambda: journal(tmp_path))
    waiting = [hold(tmp_path, "journal") for _ in range(4)]
    for process in waiting:
        assert process.stderr is not None
        assert f"pid {first.pid}" in process.stderr.readline()
    first.kill()
    texts = [process.communicate(timeout=HANG_SECONDS)[1] for process in waiting]
    assert [process.returncode for process in waiting] == [0] * 4
    # Nobody came in while another was inside.
    _, *lines = journal(tmp_path)
    assert [line[0] for line in lines] == ["in", "out"] * 4
    assert all(came[1] == went[1] for came, went in zip(lines[::2], lines[1::2], strict=True))
    assert sum("taking over" in text for text in texts) == 1
    assert not leases(tmp_path)
    first.wait()


def test_a_silent_holder_on_another_host_is_dead_after_three_minutes(tmp_path: Path, capsys) -> None:
    left_behind(tmp_path, age=200.0)
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack") as held:
        assert read_owner(held.path) == held.owner
    assert "host elsewhere, pid 4" in capsys.readouterr().err


def test_a_holder_on_another_host_that_speaks_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_JUDGE_SECONDS", 0.05)
    path, owner = left_behind(tmp_path, age=10.0)
    got = threading.Event()

    def wait() -> None:
        with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack"):
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.wait(0.5) and read_owner(path) == owner
    os.utime(path, (1, 1))  # it falls silent
    assert got.wait(HANG_SECONDS)
    waiter.join()


@pytest.mark.parametrize("state", ["COMPLETED", "NODE_FAIL"])
def test_the_lease_of_an_ended_slurm_job_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    monkeypatch.setattr("hardscale.runtime.slurm_queue.available", lambda: True)
    monkeypatch.setattr("hardscale.runtime.slurm_queue.state", {77: state}.get)
    left_behind(tmp_path, slurm_job=77)
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack") as held:
        assert [owner.slurm_job for owner in held.earlier] == [77]


def test_a_requeued_job_takes_its_own_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path, slurm_job=77, restarts=0)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack") as held:
        assert held.owner.restarts == 1


def test_a_lease_that_nobody_signed_is_free_after_three_minutes(tmp_path: Path) -> None:
    path, _ = left_behind(tmp_path)
    path.write_text("")
    os.utime(path, (1, 1))
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack") as held:
        assert not held.earlier


def test_a_lease_that_came_in_between_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hosts do not see each other's locks: another waiter was faster, and its lease lies where a dead one did."""
    path, owner = left_behind(tmp_path, age=200.0)
    faster = replace(owner, token="faster")
    answers = iter([False, False])

    def judge(note: Path, *rest: object) -> bool:
        held = next(answers)
        if path.exists():
            path.write_text(faster.text) if read_owner(path) == owner and judged else judged.append(1)
        return held

    judged: list[int] = []
    monkeypatch.setattr(lease_module, "is_held", judge)
    mine = Held(path, Owner.me())
    lease_module._take_over(mine, "attack")
    assert read_owner(path) == faster
    assert [entry.name for entry in path.parent.iterdir() if entry != path] == ["takeover.lock"]


def test_a_lease_taken_over_is_not_given_back_for_another(tmp_path: Path) -> None:
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack") as held:
        other = replace(held.owner, token="another")
        held.path.unlink()
        held.path.write_text(other.text)
    assert read_owner(held.path) == other


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "leases").write_text("a file")
    with pytest.raises(ArtifactError, match="leases"), lease(tmp_path / "out", tmp_path / "leases", "attack"):
        pass


def test_only_equal_work_of_the_one_before_counts_as_done(tmp_path: Path) -> None:
    out, task, other = tmp_path / "out", tmp_path / "task", tmp_path / "other"
    for folder, number in ((task, 1), (other, 2)):
        with publishing(folder, "task", {"n": number}):
            pass
    me = Owner.me("v1")
    before = [replace(me, token="a", version="v1")]

    def done(spec: int = 1, inputs: Path = task, earlier: list[Owner] = before) -> bool:
        return Held(tmp_path / "x.lease", me, earlier).done_before(out, "attack", {"n": spec}, {"task": inputs})

    assert not done()  # nothing was published
    with publishing(out, "attack", {"n": 1}, {"task": task}) as draft:
        (draft.path / "rows").write_text("a")
    assert done()
    assert not done(spec=2)
    assert not done(inputs=other)
    assert not done(earlier=[])
    assert not done(earlier=[*before, replace(me, token="b", version="v0")])
    (out / "rows").unlink()
    assert not done()


DAY = 86_400.0


@pytest.mark.parametrize("skew", [DAY, -DAY])
def test_a_host_whose_clock_is_off_by_a_day_neither_takes_nor_spares_too_much(
    skew: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + skew)
    path, owner = left_behind(tmp_path)
    for age, held in ((10.0, True), (190.0, False)):
        os.utime(path, (now() - age, now() - age))  # by the file system's clock, which is not this host's
        assert is_held(path, owner, tmp_path / "leases" / "clock", 180.0) is held


def test_the_silence_of_a_holder_from_the_future_counts_from_now_on(tmp_path: Path) -> None:
    path, owner = left_behind(tmp_path, -DAY)
    clock = tmp_path / "leases" / "clock"
    before = time.time()
    assert is_held(path, owner, clock, 0.2)
    assert before - 1 <= path.stat().st_mtime <= time.time() + 1
    assert is_held(path, owner, clock, DAY)
    time.sleep(0.3)
    assert not is_held(path, owner, clock, 0.2)


@pytest.mark.parametrize("skew", [DAY, -DAY])
def test_a_lease_is_waited_for_and_timed_whatever_the_clock_does(
    skew: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(tmp_path, "journal")
    wait_until(lambda: journal(tmp_path))
    now, moments = time.time, iter(range(1_000_000))
    monkeypatch.setattr(time, "time", lambda: now() + (skew if next(moments) % 2 else 0.0))
    with lease(tmp_path / "out" / "gcg", tmp_path / "leases", "attack"):
        assert [line[0] for line in journal(tmp_path)] == ["in", "out"]
    assert first.wait() == 0
