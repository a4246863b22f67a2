"""Locks of files: waiting, looking, and file systems that know none. Notes of owners have tests of their own."""

import errno
import fcntl
import json
import os
import threading
import time

import pytest

from hardscale.artifacts import locks
from hardscale.artifacts.locks import Owner, lock, locked, read_owner, sign, taken, try_lock
from waiting import HANG_SECONDS


def without(number):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    return fails


def test_a_lock_is_seen_by_all_who_open_the_file_and_ends_with_it(tmp_path):
    path = tmp_path / "lock"
    with path.open("a") as first, path.open("a") as second:
        assert try_lock(first) is True
        assert try_lock(second) is False
        assert try_lock(second.fileno(), shared=True) is False
    with path.open("a") as third, path.open("rb") as fourth:
        assert try_lock(third, shared=True) is True
        assert try_lock(fourth, shared=True) is True
        assert try_lock(fourth) is False


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(tmp_path, monkeypatch, number):
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(fcntl, "flock", without(number))
    with path.open("a") as file:
        assert try_lock(file) is None
        lock(file)
    with locked(path, lambda: pytest.fail("nobody holds it")):
        pass
    assert taken(path)  # it cannot be told


def test_other_errors_of_the_file_system_are_raised(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(fcntl, "flock", without(errno.EIO))
    with path.open("a") as file, pytest.raises(OSError, match=os.strerror(errno.EIO)):
        try_lock(file)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), locked(path, lambda: None):
        pass
    assert taken(path)


def test_who_waits_says_so_once_and_goes_on_when_the_lock_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_LOOK_SECONDS", 0.01)
    path, said, inside = tmp_path / "lock", [], threading.Event()

    def wait():
        with locked(path, lambda: said.append(1)):
            inside.set()

    with locked(path, lambda: pytest.fail("nobody holds it")):
        assert taken(path)
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not inside.wait(0.2)
    assert inside.wait(HANG_SECONDS)
    waiter.join()
    assert said == [1]
    assert not taken(path)


def test_without_its_file_no_lock_is_taken(tmp_path):
    assert not taken(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_signed_note_is_whole_and_kept_young(tmp_path):
    note, owner = tmp_path / "note.json", Owner.me()
    note.write_text("of another")
    heart = sign(note, owner, 0.01)
    try:
        assert read_owner(note) == owner
        assert json.loads(note.read_text())["pid"] == os.getpid()
        assert [path.name for path in tmp_path.iterdir()] == ["note.json"]
        os.utime(note, (1, 1))
        deadline = time.monotonic() + HANG_SECONDS
        while note.stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert note.stat().st_mtime > 2
    finally:
        heart.stop()


def test_a_note_that_finds_no_room_leaves_the_one_before_it(tmp_path, monkeypatch):
    note = tmp_path / "note.json"
    note.write_text("of another")
    monkeypatch.setattr(os, "write", without(errno.ENOSPC))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        sign(note, Owner.me(), 1.0)
    assert note.read_text() == "of another"
    assert [path.name for path in tmp_path.iterdir()] == ["note.json"]
