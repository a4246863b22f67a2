"""The one way to open a file that a user brings: a regular file, of a bounded size, text that is UTF-8, shallow JSON.

Nothing here waits: a named pipe, a device or a folder under a file's name is told by its kind before and after it is
opened. Every fault is one line that names the file, what was found and what is allowed, of the error class that the
caller asks for. Nothing of a file's content is ever part of a message.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from hardscale.errors import DataError, HardscaleError

#: What configurations, studies and other small files may hold at most.
SMALL_BYTES = 16 * 1024**2
#: Containers within containers that a JSON file may have at most; those that libraries write have fewer than 20.
MAX_DEPTH = 100
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_UTF8_MARK = b"\xef\xbb\xbf"
#: The longer marks first: UTF-32's begins like UTF-16's.
_WIDE_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def shown(path: Path | str) -> str:
    """A path or name as messages show it: on one line, without what a terminal would obey."""
    text = str(path)
    return text if text.isprintable() else repr(text)[1:-1]


def expanded(path: str | Path, what: str, error: type[HardscaleError] = DataError) -> Path:
    """A path with ``~`` and ``~user`` replaced by home folders.

    Raises:
        HardscaleError: of class ``error``: there is no such user, or the name cannot be a path.
    """
    try:
        text = str(path)
        os.fsencode(text)
        if "\0" in text:
            raise ValueError("a NUL character")
        return Path(path).expanduser()
    except (RuntimeError, ValueError) as fault:
        reason = "has no home folder here" if isinstance(fault, RuntimeError) else "cannot be a path"
        raise error(f"{shown(path)}: {what}: this {reason}; give the whole path of what is meant") from fault


def is_folder(path: Path) -> bool:
    """Whether a folder lies there; false also where that cannot be told (a loop of links, a name too long)."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def regular(path: Path, what: str, *, error: type[HardscaleError] = DataError) -> Path:
    """The path itself, if a regular file lies there, perhaps behind links.

    Args:
        path: of the file.
        what: the role it plays, for messages: "a model's configuration".
        error: the class of what is raised.

    Raises:
        HardscaleError: of class ``error``: nothing is there, or something that is not a regular file.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as fault:
        _missing(path, what, fault, error)
    _check_kind(path, what, status, error)
    return path


@contextmanager
def opened(
    path: Path, what: str, *, max_bytes: int | None = None, error: type[HardscaleError] = DataError
) -> Iterator[BinaryIO]:
    """A regular file open for reading bytes, for readers that take a stream; its size is checked once it is open.

    Raises:
        HardscaleError: of class ``error``: it cannot be opened, is no regular file, or is larger than ``max_bytes``.
    """
    regular(path, what, error=error)  # a device may act when it is opened
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as fault:
        _missing(path, what, fault, error)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        _check_kind(path, what, status, error)
        if max_bytes is not None and status.st_size > max_bytes:
            _too_large(path, what, f"{status.st_size:,}", max_bytes, error)
        yield file


def read_bytes(
    path: Path, what: str, *, max_bytes: int = SMALL_BYTES, error: type[HardscaleError] = DataError
) -> bytes:
    """Everything in a regular file.

    Raises:
        HardscaleError: of class ``error``: it cannot be read, is no regular file, or holds more than ``max_bytes``.
    """
    with opened(path, what, max_bytes=max_bytes, error=error) as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as fault:
            _missing(path, what, fault, error)
    if content is None or len(content) > max_bytes:  # None: a file of the system that would have waited
        _too_large(path, what, "more", max_bytes, error)
    return content


def read_text(
    path: Path,
    what: str,
    *,
    max_bytes: int = SMALL_BYTES,
    byte_order_mark: bool = False,
    error: type[HardscaleError] = DataError,
) -> str:
    """The text of a UTF-8 file, line ends as they are.

    Args:
        path: of the file.
        what: the role it plays, for messages.
        max_bytes: more is refused.
        byte_order_mark: whether a UTF-8 mark at the head is passed over, as spreadsheets write it; refused otherwise.
        error: the class of what is raised.

    Raises:
        HardscaleError: of class ``error``: see :func:`read_bytes`; or it is UTF-16, has a NUL, or is not UTF-8.
    """
    content = read_bytes(path, what, max_bytes=max_bytes, error=error)
    problem = text_problem(content, byte_order_mark)
    if problem:
        raise error(f"{shown(path)}: {problem}, allowed for {what} is UTF-8 text; save it again as UTF-8")
    return content.removeprefix(_UTF8_MARK).decode("utf-8")


def text_problem(content: bytes, byte_order_mark: bool = False) -> str | None:
    """Why bytes are not UTF-8 text, named by its cause; None when they are."""
    for mark, name in _WIDE_MARKS:
        if content.startswith(mark):
            return f"found {name} text"
    if content.startswith(_UTF8_MARK) and not byte_order_mark:
        return "found a byte order mark at its head"
    nul = content.find(b"\0")
    if nul >= 0:
        head = content[:1000]
        halves = (head[::2].count(0), head[1::2].count(0))
        wide = max(halves) > len(head) // 4 and min(halves) == 0
        return "found UTF-16 text (without a mark)" if wide else f"found a NUL at byte {nul:,}"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        return f"found a byte that is not UTF-8 in line {line:,}"
    return None


def read_json(
    path: Path,
    what: str,
    *,
    max_bytes: int = SMALL_BYTES,
    max_depth: int = MAX_DEPTH,
    error: type[HardscaleError] = DataError,
) -> Any:
    """The value in a JSON file.

    Raises:
        HardscaleError: of class ``error``: see :func:`read_text` and :func:`parse_json`.
    """
    text = read_text(path, what, max_bytes=max_bytes, error=error)
    return parse_json(text, shown(path), what, max_depth=max_depth, error=error)


def parse_json(
    text: str, where: str, what: str, *, max_depth: int = MAX_DEPTH, error: type[HardscaleError] = DataError
) -> Any:
    """The value of a JSON text.

    Args:
        text: as read.
        where: file, or file and line, for messages.
        what: the role it plays, for messages.
        max_depth: containers within containers.
        error: the class of what is raised.

    Raises:
        HardscaleError: of class ``error``: it is no JSON, is nested deeper than ``max_depth``, has a number of
            thousands of digits, or half a surrogate pair, which no file can hold again.
    """
    try:
        value = json.loads(text)
    except RecursionError as fault:
        raise error(f"{where}: nested deeper than {max_depth}, which {what} may not be; fix the file") from fault
    except json.JSONDecodeError as fault:
        place = f"line {fault.lineno}, column {fault.colno}"
        found = f"not valid JSON ({fault.msg}, {place})" if text.strip() else "empty"
        raise error(f"{where}: {found}, allowed for {what} is JSON; fix the file") from fault
    except ValueError as fault:  # Python's limit on digits
        raise error(f"{where}: a number of too many digits in {what}; fix the file") from fault
    if depth_exceeds(value, max_depth):
        raise error(f"{where}: nested deeper than {max_depth}, which {what} may not be; fix the file")
    if _SURROGATE_ESCAPE.search(text) and any(map(_has_surrogate, _strings(value))):
        raise error(f"{where}: half of a surrogate pair (\\ud800 to \\udfff) in {what}; fix the file")
    return value


def depth_exceeds(value: Any, limit: int) -> bool:
    """Whether lists and mappings lie within each other more than ``limit`` deep; without recursion."""
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inner(outer)]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def _inner(value: dict[Any, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _strings(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            pending += [*one, *one.values()]
        elif isinstance(one, list):
            pending += one


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _check_kind(path: Path, what: str, status: os.stat_result, error: type[HardscaleError]) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    found = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
    raise error(f"{shown(path)}: found {found}, allowed for {what} is a regular file; put the file itself there")


def _missing(path: Path, what: str, fault: OSError | ValueError, error: type[HardscaleError]) -> NoReturn:
    if isinstance(fault, FileNotFoundError | NotADirectoryError):
        raise error(f"{shown(path)}: no such file, and {what} is needed; give one that exists") from fault
    reason = (fault.strerror if isinstance(fault, OSError) else None) or "its name cannot be a path"
    raise error(f"{shown(path)}: {what} cannot be read ({reason}); give a file that can") from fault


def _too_large(path: Path, what: str, found: str, max_bytes: int, error: type[HardscaleError]) -> NoReturn:
    raise error(
        f"{shown(path)}: found {found} bytes, allowed for {what} are at most {max_bytes:,}; give a smaller file"
    )
