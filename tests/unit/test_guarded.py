"""The guarded reader: each kind of thing that is no plain, small, shallow UTF-8 file gets one line and no wait."""

import json
import os
import socket
from pathlib import Path

import pytest

from hardscale.errors import DataError, ModelError
from hardscale.untrusted import guarded


def _refusal(call, *arguments, **options) -> str:
    with pytest.raises(ModelError) as caught:
        call(*arguments, "a test's file", error=ModelError, **options)
    line = str(caught.value)
    assert "\n" not in line and "\x1b" not in line, line
    return line


def test_a_plain_file_comes_back_whole_through_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "plain.json"
    path.write_bytes('{"a": [1, "ü\\ud83d\\ude00"]}\r\n'.encode())
    assert guarded.read_bytes(path, "it") == path.read_bytes()
    assert guarded.read_text(path, "it") == path.read_bytes().decode()
    assert guarded.read_json(path, "it") == {"a": [1, "ü😀"]}
    (tmp_path / "link").symlink_to(path)
    assert guarded.regular(tmp_path / "link", "it") == tmp_path / "link"


def test_nothing_but_a_regular_file_is_opened_and_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    found = {
        "pipe": "a named pipe", "folder": "a folder", "socket": "a socket", "loop": "symbolic links",
        "gone": "no such file", "missing": "no such file", "x" * 300: "name too long", "a\0b": "cannot be a path",
    }  # fmt: skip
    for name, words in found.items():
        for reader in (guarded.regular, guarded.read_bytes, guarded.read_text, guarded.read_json):
            assert words.lower() in _refusal(reader, tmp_path / name).lower()
    for device in ("/dev/zero", "/dev/null"):
        assert "a device" in _refusal(guarded.read_bytes, Path(device))
    assert "no such file" in _refusal(guarded.read_bytes, tmp_path / "socket" / "below")


def test_size_is_checked_without_reading_and_also_where_the_system_says_zero(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(10**12)
    assert "1,000,000,000,000 bytes" in _refusal(guarded.read_bytes, path, max_bytes=100)
    assert "at most 100" in _refusal(guarded.read_json, path, max_bytes=100)
    assert "more bytes" in _refusal(guarded.read_bytes, Path("/proc/self/status"), max_bytes=10)
    path.write_bytes(b"x" * 100)
    assert len(guarded.read_bytes(path, "it", max_bytes=100)) == 100


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text".encode("utf-16"), "UTF-16"),
        ("text".encode("utf-16-be"), "UTF-16 text (without a mark)"),
        ("text".encode("utf-16-le"), "UTF-16 text (without a mark)"),
        ("text".encode("utf-32"), "UTF-32"),
        (b"\xef\xbb\xbftext", "byte order mark"),
        (b"ab\0cdefgh", "a NUL at byte 2"),
        (b"one\ntw\xffo", "not UTF-8 in line 2"),
        (b"cut \xc3", "not UTF-8 in line 1"),
    ],
)
def test_text_that_is_not_utf8_is_named_as_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    assert words in _refusal(guarded.read_text, path)


def test_a_mark_may_be_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbftext")
    assert guarded.read_text(path, "it", byte_order_mark=True) == "text"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("{", "not valid JSON"),
        ('{"a": 1,}', "line 1, column"),
        ("[" * 100_000, "nested deeper"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper"),
        ('{"a":' * 500 + "1" + "}" * 500, "nested deeper"),
        ("[" * 6 + "]" * 6, "nested deeper than 5"),
        ("1" * 5000, "too many digits"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
    ],
)
def test_json_that_is_broken_or_deep_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "value.json"
    path.write_text(content)
    assert words in _refusal(guarded.read_json, path, max_depth=5)


def test_depth_counts_containers_within_containers() -> None:
    def depth(value: object) -> int:  # the plain definition, by recursion
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    for text in ("1", "[]", "[1]", "[[]]", '{"a": [1, {"b": []}], "c": 2}', '{"a": {}}', "[[[[]]], 1]"):
        value = json.loads(text)
        assert [guarded.depth_exceeds(value, limit) for limit in range(6)] == [depth(value) > k for k in range(6)]


def test_home_folders_are_put_in_or_refused() -> None:
    assert guarded.expanded("~/x", "the model") == Path.home() / "x"
    for name in ("~nosuchuser/x", "a\0b", "\ud800"):
        with pytest.raises(DataError, match="the model"):
            guarded.expanded(name, "the model")


def test_names_are_shown_on_one_line_without_escapes(tmp_path: Path) -> None:
    line = _refusal(guarded.read_bytes, tmp_path / "a\nb\x1b[31m\u202e")
    assert "a\\nb\\x1b[31m\\u202e" in line
