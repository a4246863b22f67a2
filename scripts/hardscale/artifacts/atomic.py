"""Files that are absent, old or whole, never half-written: the one place that writes a draft and renames it.

A draft stands beside the file that it becomes, so that the rename stays inside one file system; its name differs for
every writer, on every host. Folders are published by :mod:`hardscale.artifacts.publish`. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hardscale.artifacts.retry import SHAKY
from hardscale.errors import ArtifactError

#: Rights of a file that its owner alone reads and writes.
PRIVATE = 0o600


def draft_of(path: Path) -> Path:
    """A hidden name beside a file or folder, for what will take its place; names of drafts are known by ``.tmp-``."""
    return path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")


@contextlib.contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A draft to write to; it takes the place of ``path`` when the block ends without an exception.

    Raises:
        OSError: the rename failed; what the block raises passes. Either way the draft is gone.
    """
    draft = draft_of(path)
    try:
        yield draft
        os.replace(draft, path)  # noqa: PTH105 - Path.replace is the same call
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """As :func:`drafted`, for results: folders on the way are made, and errors of the disk are named.

    Raises:
        ArtifactError: the place cannot be written, or is full.
    """
    path = Path(path)
    with naming_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft:
            yield draft


def write_whole(
    path: Path,
    content: str | bytes,
    synced: bool = False,
    private: bool = False,
    times: os.stat_result | None = None,
) -> None:
    """Write a file in one go.

    Args:
        path: of the file; what stands there is replaced.
        content: text is written as UTF-8.
        synced: whether the content, and then the folder, are forced to the disk.
        private: whether its owner alone may ever read it, its draft too; see :func:`private_file`.
        times: keep the times of a file with this status.

    Raises:
        OSError: there is no such folder, no room or no right; what stood there stands.
    """
    data = content.encode() if isinstance(content, str) else content
    with drafted(path) as draft:
        with private_file(draft) if private else draft.open("xb") as file:
            file.write(data)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        if times is not None:
            os.utime(draft, ns=(times.st_atime_ns, times.st_mtime_ns))
    if synced:
        sync(path.parent)


@contextlib.contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write that nobody but its owner can ever open: it is made so, whatever the umask, and is no link.

    What stood there is replaced.
    """
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, PRIVATE)  # a umask takes rights, and the owner's may be among them
        yield file


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


#: What libraries that hide the system's error say of a full disk: safetensors, then torch's archive writer.
_FULL = ("no space left on device", "inline_container")


def of_full_disk(error: BaseException) -> bool:
    """Whether an error says that the disk, or a quota on it, is full."""
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return full or any(sign in str(error).lower() for sign in _FULL)


@contextlib.contextmanager
def naming_disk_errors(folder: Path) -> Iterator[None]:
    """Turn a place that cannot be written, or is full, into one line that names it and the space that is left.

    Raises:
        ArtifactError: for such errors; others pass.
    """
    try:
        yield
    except OSError as error:
        known = error.errno in {errno.ENOSPC, errno.EDQUOT, *SHAKY}
        if error.errno is None or not (known or error.filename):
            raise
        raise _unwritable(error.filename or folder, os.strerror(error.errno), folder) from error
    except Exception as error:
        if not of_full_disk(error):
            raise
        raise _unwritable(folder, os.strerror(errno.ENOSPC), folder) from error


def _unwritable(place: Any, reason: str, folder: Path) -> ArtifactError:
    free = shutil.disk_usage(_existing(folder)).free / 2**20
    return ArtifactError(
        f"{place}: {reason} ({free:.1f} MiB free); nothing was published, "
        "fix the place or point results elsewhere with --directory, then run again"
    )


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
