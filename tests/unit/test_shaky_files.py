"""A stale handle or an I/O error: once costs nothing, again is one line, and nothing half done is left."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardscale.artifacts import retry
from hardscale.artifacts.manifest import MANIFEST, open_artifact, read_manifest, verify
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.tables import read_table, write_table
from hardscale.errors import ArtifactError

SCHEMA = pa.schema([("x", pa.int64())])
ONCE, ALWAYS = 1, 1_000


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_PAUSE_SECONDS", 0.0)


def publish(folder: Path) -> None:
    with publishing(folder, "attack", {"n": 1}) as draft:
        write_table(draft.path / "a.parquet", [{"x": 1}], SCHEMA)


def shaky(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, times: int, code: int, done_first: bool = False
) -> list[int]:
    """A function that fails the first times; with ``done_first`` only its answer is lost."""
    honest: Callable[..., object] = getattr(where, name)
    failed: list[int] = []

    def act(*args: object, **options: object) -> object:
        if len(failed) >= times:
            return honest(*args, **options)
        failed.append(code)
        if done_first:
            honest(*args, **options)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(where, name, act)
    return failed


READERS: dict[str, tuple[object, str, Callable[[Path], object]]] = {
    "manifest": (Path, "read_text", read_manifest),
    "size": (Path, "stat", lambda folder: open_artifact(folder, "attack")),
    "hash": (hashlib, "file_digest", verify),
    "table": (pq, "read_table", lambda folder: read_table(folder / "a.parquet", SCHEMA)),
}


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO])
@pytest.mark.parametrize("reader", READERS)
def test_reading_resumes_after_one_error_and_ends_in_one_line_after_two(
    reader: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, read = READERS[reader]
    publish(tmp_path / "a")
    expected = read(tmp_path / "a")
    failed = shaky(monkeypatch, where, name, ONCE, code)
    assert read(tmp_path / "a") == expected
    assert failed == [code]
    monkeypatch.undo()
    monkeypatch.setattr(retry, "_PAUSE_SECONDS", 0.0)
    failed = shaky(monkeypatch, where, name, ALWAYS, code)
    with pytest.raises(ArtifactError, match=rf"{tmp_path}.*{os.strerror(code)}, twice; .*run again") as caught:
        read(tmp_path / "a")
    assert len(failed) == 2 and "\n" not in str(caught.value)
    monkeypatch.undo()
    assert read(tmp_path / "a") == expected


@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("done_first", [False, True], ids=["not done", "done, unanswered"])
def test_publishing_renames_once_more(
    there: bool, done_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:
        publish(tmp_path / "a")
    failed = shaky(monkeypatch, Path, "rename", ONCE, errno.ESTALE, done_first)
    publish(tmp_path / "a")
    assert failed and verify(tmp_path / "a")["kind"] == "attack"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_publishing_that_never_works_leaves_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = shaky(monkeypatch, Path, "rename", ALWAYS, errno.EIO)
    with pytest.raises(ArtifactError, match=rf"{tmp_path / 'a'}: {os.strerror(errno.EIO)}, twice; "):
        publish(tmp_path / "a")
    assert len(failed) == 2 and not list(tmp_path.iterdir())


def test_a_failed_fsync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = shaky(monkeypatch, os, "fsync", ONCE, errno.EIO)
    with pytest.raises(ArtifactError, match=f"{os.strerror(errno.EIO)}.*nothing was published"):
        publish(tmp_path / "a")
    assert len(failed) == 1 and not (tmp_path / "a" / MANIFEST).exists()


def test_other_errors_are_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "a")
    failed = shaky(monkeypatch, Path, "read_text", ALWAYS, errno.EACCES)
    with pytest.raises(ArtifactError, match="unreadable"):
        read_manifest(tmp_path / "a")
    assert len(failed) == 1
