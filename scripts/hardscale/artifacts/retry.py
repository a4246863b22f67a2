"""Files on a network file system: a stale handle or an I/O error is often gone a moment later."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hardscale.errors import ArtifactError

#: A file's handle no longer holds at the server; the device, or the way to it, failed.
SHAKY = frozenset({errno.ESTALE, errno.EIO})
_PAUSE_SECONDS = 1.0

_T = TypeVar("_T")


def retry_once(act: Callable[[], _T], path: Path) -> _T:
    """What ``act`` returns; it is done a second time after a stale handle or an I/O error.

    Not for fsync: a second one can succeed although the data of the first are lost.

    Args:
        act: opens or names the file anew, and may be done twice.
        path: for the error.

    Raises:
        ArtifactError: the same kind of error again. Other errors pass.
    """
    try:
        return act()
    except OSError as error:
        if error.errno not in SHAKY:
            raise
    time.sleep(_PAUSE_SECONDS)
    try:
        return act()
    except OSError as error:
        if error.errno not in SHAKY:
            raise
        raise ArtifactError(
            f"{path}: {os.strerror(error.errno or 0)}, twice; nothing was changed, look at the disk or mount, "
            "then run again"
        ) from error


def rename(source: Path, target: Path) -> None:
    """Rename, once more if need be: the server may have done it although its answer was lost.

    Raises:
        ArtifactError: see :func:`retry_once`.
    """

    def act() -> None:
        if source.exists() or not target.exists():
            source.rename(target)

    retry_once(act, target)
