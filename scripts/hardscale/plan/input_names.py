"""Names under which Snakemake takes a user's file as an input.

Snakemake reads every input as a pattern, also one that a function returns: ``{name}`` is a wildcard and ``<name>`` a
path variable, and nothing in a name can say that it is neither. A file whose path could be read so goes by a link with
a plain name. Jobs never see the link: what they are told is the path that the study names.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: In Snakemake's own folder of the working directory.
LINKS = Path(".snakemake") / "hardscale-inputs"
#: What some part of Snakemake reads as more than a name, warns of, or cannot write down.
_ODD = re.compile(r"[{}<>\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]|^\s|\s$|^\./|//|/$")
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


def plain_names(method: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """An input function whose paths are names, never patterns."""

    @functools.wraps(method)
    def names(*args: Any, **kwargs: Any) -> list[str]:
        return [input_name(path) for path in method(*args, **kwargs)]

    return names


def input_name(path: str | Path) -> str:
    """The path itself where it is plain, else a link to it, made here and now in the working directory."""
    name = os.fspath(path)
    if not _ODD.search(name):
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    link = LINKS / f"{digest}-{_OTHER.sub('_', Path(name).name)[-80:]}"
    _point(link, os.path.join(os.getcwd(), name))  # noqa: PTH109, PTH118 - the text is kept as it stands
    return str(link)


def _point(link: Path, target: str) -> None:
    """Let a link point to a target. Its own age is that of no edit: what counts is the file's."""
    try:
        if os.readlink(link) == target:  # noqa: PTH115 - the text as it stands, not a path
            return
    except OSError:
        pass
    link.parent.mkdir(parents=True, exist_ok=True)
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    os.utime(draft, (0, 0), follow_symlinks=False)
    draft.replace(link)
