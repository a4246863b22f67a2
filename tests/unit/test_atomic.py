"""Files that are absent, old or whole, also where there is no room; folders that take the place of others."""

import errno
import os
import stat

import pytest

from hardscale.artifacts.atomic import draft_of, drafted, replacing, write_whole
from hardscale.artifacts.publish import fresh_draft, put_in_place
from hardscale.errors import ArtifactError
from hardscale.ops.disk import is_draft


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_replacing_leaves_the_old_file_on_failure(tmp_path):
    path = tmp_path / "a" / "x.txt"
    with replacing(path) as draft:
        draft.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert names(path.parent) == ["x.txt"]


@pytest.mark.parametrize("content", ["grün\n", b"\x00\xff"])
def test_a_file_is_written_whole_and_another_one_is_replaced(tmp_path, content):
    path = tmp_path / "x"
    for before in (None, "what stood there"):
        if before:
            path.write_text(before)
        write_whole(path, content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
        assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("call", ["fsync", "replace", "utime"])
def test_without_room_what_stood_there_stands_and_no_draft_is_left(tmp_path, monkeypatch, call):
    path = tmp_path / "x"
    path.write_text("old")
    times = path.stat()
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new", synced=True, times=times)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_results_name_the_place_of_an_error_and_notes_pass_it_on(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", full)
    with (
        pytest.raises(ArtifactError, match=r"x: No space left on device \(.*MiB free\)"),
        replacing(tmp_path / "x") as draft,
    ):
        draft.write_text("new")
    with pytest.raises(OSError, match="No space left"), drafted(tmp_path / "x") as draft:
        draft.write_text("new")
    assert names(tmp_path) == []


def test_the_content_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(source, target):
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_whole(tmp_path / "x", "text", synced=True)
    assert done == ["file", "name", "folder"]
    done.clear()
    write_whole(tmp_path / "x", "text")
    assert done == ["name"]


def test_a_private_file_stays_private_and_times_can_be_kept(tmp_path):
    path = tmp_path / "x"
    path.write_text("readable by all")
    os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    path.chmod(0o644)
    write_whole(path, "secret", private=True, times=path.stat())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (1_000_000_000, 2_000_000_000)


def test_drafts_are_hidden_known_as_such_and_differ_for_every_writer(tmp_path):
    one, other = draft_of(tmp_path / "x.txt"), draft_of(tmp_path / "x.txt")
    assert one != other
    assert one.parent == tmp_path
    assert is_draft(one.name)


def test_a_folder_takes_the_place_of_another_one(tmp_path):
    folder = tmp_path / "sub" / "it"
    for text in ("old", "new"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / ".it.tmp-of-a-killed-writer").mkdir()
        draft = fresh_draft(folder)
        draft.mkdir()
        (draft / "file").write_text(text)
        put_in_place(draft, folder)
        assert (folder / "file").read_text() == text
        assert names(tmp_path / "sub") == ["it"]
